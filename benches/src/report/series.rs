//! Questions that differ in a number only (1, 4, 16 at once; 8, 64, 512 instructions) as lines over that number.

use maud::{Markup, html};

use super::axis::Axis;
use super::dots::px;
use super::words::{class, plain};
use crate::record::{Question, Subject};
use crate::results::Results;
use crate::statistics::Estimate;
use crate::targets::Scale;

const WIDTH: f64 = 360.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 346.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 230.0;
/// Fewer points make no line.
const POINTS: usize = 3;

/// Questions of one form, and the number in each.
pub struct Series<'a> {
    /// In ascending order of their numbers.
    pub questions: Vec<(f64, &'a Question)>,
}

/// The name without its first number, and that number.
fn split(name: &str) -> Option<(String, f64)> {
    let from = name.find(|letter: char| letter.is_ascii_digit())?;
    let length = name[from..].find(|letter: char| !letter.is_ascii_digit()).unwrap_or(name.len() - from);
    let number = name[from..from + length].parse().ok()?;
    Some((format!("{}#{}", &name[..from], &name[from + length..]), number))
}

/// All series among these questions.
pub fn among<'a>(questions: &[&'a Question]) -> Vec<Series<'a>> {
    let mut families: Vec<(String, Vec<(f64, &'a Question)>)> = Vec::new();
    for question in questions {
        let Some((stem, number)) = split(&question.name) else { continue };
        match families.iter_mut().find(|(known, _)| *known == stem) {
            Some((_, members)) => members.push((number, question)),
            None => families.push((stem, vec![(number, question)])),
        }
    }
    let long = families.into_iter().filter(|(_, members)| members.len() >= POINTS);
    long.map(|(_, mut questions)| {
        questions.sort_by(|one, other| one.0.total_cmp(&other.0));
        Series { questions }
    })
    .collect()
}

struct Curve<'a> {
    subject: &'a Subject,
    points: Vec<(f64, Estimate)>,
}

impl Series<'_> {
    /// What the first asks, with its number left open.
    pub fn asks(&self) -> String {
        let (number, question) = &self.questions[0];
        question.asks.replacen(&format!("{number}"), "N", 1)
    }

    /// The chart: amounts, for each subject that answered at least two.
    pub fn chart(&self, results: &Results, id: &str) -> Option<Markup> {
        let points = |subject: &Subject| {
            let point = |(number, question): &(f64, &Question)| {
                Some((*number, results.estimate(&question.name, &subject.name)?))
            };
            self.questions.iter().filter_map(point).collect::<Vec<_>>()
        };
        let curves: Vec<Curve> = results
            .subjects
            .iter()
            .map(|subject| Curve { subject, points: points(subject) })
            .filter(|curve| curve.points.len() > 1)
            .collect();
        (!curves.is_empty()).then(|| self.draw(&curves, id))
    }

    fn draw(&self, curves: &[Curve], id: &str) -> Markup {
        let unit = self.questions[0].1.unit;
        let pretty = |value| Scale::Amount(unit).pretty(value);
        let numbers: Vec<f64> = self.questions.iter().map(|(number, _)| *number).collect();
        let all = curves.iter().flat_map(|curve| &curve.points);
        let ends: Vec<f64> = all.flat_map(|(_, found)| [found.low, found.high]).collect();
        let across = Axis::of_counts(&numbers, LEFT + 8.0, RIGHT - 8.0);
        let up = Axis::of_amounts(&ends, BOTTOM, TOP);
        let says = |curve: &Curve| {
            let points = curve.points.iter().map(|(number, found)| format!("{number}: {}", pretty(found.median)));
            format!("{}: {}", curve.subject.name, points.collect::<Vec<_>>().join(", "))
        };
        let description: Vec<String> = curves.iter().map(says).collect();
        html! {
            svg class="chart" role="img" aria-labelledby={ (id) "-t " (id) "-d" } viewBox={ "0 0 " (WIDTH) " " (BOTTOM + 22.0) } {
                title id={ (id) "-t" } { (plain(&self.asks())) ", by N" }
                desc id={ (id) "-d" } { (description.join("; ")) }
                @for tick in up.ticks(6) {
                    line class="grid" x1=(px(LEFT)) x2=(px(RIGHT)) y1=(px(up.at(tick))) y2=(px(up.at(tick))) {}
                    text class="tick" x=(px(LEFT - 4.0)) y=(px(up.at(tick) + 3.5)) text-anchor="end" { (pretty(tick)) }
                }
                @for number in &numbers {
                    text class="tick" x=(px(across.at(*number))) y=(px(BOTTOM + 15.0)) text-anchor="middle" { (number) }
                }
                @for (place, curve) in curves.iter().enumerate() {
                    g class={ (class(curve.subject.role)) " curve-" (place % CURVES) } {
                        title { (curve.subject.name) }
                        polyline class="curve" points=(curve.points.iter().map(|(number, found)| format!("{},{}", px(across.at(*number)), px(up.at(found.median)))).collect::<Vec<_>>().join(" ")) {}
                        @for (number, found) in &curve.points {
                            line class="whisker" x1=(px(across.at(*number))) x2=(px(across.at(*number))) y1=(px(up.at(found.low))) y2=(px(up.at(found.high))) {}
                            (mark(place, across.at(*number), up.at(found.median)))
                        }
                    }
                }
            }
            ul class="legend" {
                @for (place, curve) in curves.iter().enumerate() {
                    li {
                        svg class={ "key curve-" (place % CURVES) } viewBox="0 0 26 12" aria-hidden="true" { polyline class="curve" points="0,6 26,6" {} (mark(place, 13.0, 6.0)) }
                        (curve.subject.name)
                    }
                }
            }
        }
    }
}

/// As many lines have colours of their own; then shapes tell them apart.
const CURVES: usize = 7;

fn mark(place: usize, x: f64, y: f64) -> Markup {
    html! {
        @match (place + place / CURVES) % 4 {
            0 => circle class="dot" cx=(px(x)) cy=(px(y)) r="3.4" {},
            1 => rect class="dot" x=(px(x - 3.2)) y=(px(y - 3.2)) width="6.4" height="6.4" {},
            2 => path class="dot" d={ "M" (px(x)) " " (px(y - 4.6)) "l4.6 4.6l-4.6 4.6l-4.6-4.6z" } {},
            _ => path class="dot" d={ "M" (px(x)) " " (px(y - 4.4)) "l4.2 7.6h-8.4z" } {},
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Unit;

    fn question(name: &str) -> Question {
        Question { name: name.to_owned(), asks: format!("ask {name}"), group: String::new(), unit: Unit::Ns }
    }

    #[test]
    fn what_differs_in_a_number_is_a_series() {
        let all = ["many_16_cpu", "many_1_cpu", "open", "many_4_cpu", "many_1_wall", "many_4_wall"].map(question);
        let series = among(&all.iter().collect::<Vec<_>>());
        assert_eq!(series.len(), 1, "two points make no line");
        let numbers: Vec<f64> = series[0].questions.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [1.0, 4.0, 16.0]);
        assert_eq!(series[0].asks(), "ask many_N_cpu");
    }
}
