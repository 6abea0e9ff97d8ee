//! Questions that differ in a number only (1, 4, 16 at once; 8, 64, 512 instructions) as lines over that number.

use maud::{Markup, html};

use super::axis::Axis;
use super::dots::{mark, px};
use super::words::{class, plain, short};
use crate::record::{Question, Subject};
use crate::results::Results;
use crate::statistics::Estimate;
use crate::targets::Scale;

const WIDTH: f64 = 360.0;
const LEFT: f64 = 46.0;
const RIGHT: f64 = 218.0;
/// How high a label is.
const LABEL: f64 = 12.0;
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
    /// What the last asks, with its number left open; the first often has another form: one start, many starts.
    pub fn asks(&self) -> String {
        self.questions
            .last()
            .map(|(number, question)| question.asks.replacen(&format!("{number}"), "N", 1))
            .unwrap_or_default()
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
        let bottom = BOTTOM.max(TOP + LABEL * (curves.len() + 1) as f64);
        let across = Axis::of_counts(&numbers, LEFT + 8.0, RIGHT - 8.0);
        let up = Axis::of_amounts(&ends, bottom, TOP);
        let says = |curve: &Curve| {
            let points = curve.points.iter().map(|(number, found)| format!("{number}: {}", pretty(found.median)));
            format!("{}: {}", curve.subject.name, points.collect::<Vec<_>>().join(", "))
        };
        let description: Vec<String> = curves.iter().map(says).collect();
        let last = |curve: &Curve| {
            curve.points.last().map_or((0.0, bottom), |(number, found)| (across.at(*number), up.at(found.median)))
        };
        let labels = apart(&curves.iter().map(|curve| last(curve).1).collect::<Vec<_>>(), TOP, bottom);
        html! {
            svg class="chart" role="img" aria-labelledby={ (id) "-t " (id) "-d" } viewBox={ "0 0 " (WIDTH) " " (bottom + 22.0) } {
                title id={ (id) "-t" } { (plain(&self.asks())) ", by N" }
                desc id={ (id) "-d" } { (description.join("; ")) }
                @for tick in up.ticks(6) {
                    line class="grid" x1=(px(LEFT)) x2=(px(RIGHT)) y1=(px(up.at(tick))) y2=(px(up.at(tick))) {}
                    text class="tick" x=(px(LEFT - 4.0)) y=(px(up.at(tick) + 3.5)) text-anchor="end" { (mark(Scale::Amount(unit), tick)) }
                }
                @for number in &numbers {
                    text class="tick" x=(px(across.at(*number))) y=(px(bottom + 15.0)) text-anchor="middle" { (number) }
                }
                text class="tick" x=(px(RIGHT + 4.0)) y=(px(bottom + 15.0)) { "= N" }
                @for (place, (curve, label)) in curves.iter().zip(labels).enumerate() {
                    @let (x, y) = last(curve);
                    g class=(class(curve.subject.role)) {
                        title { (curve.subject.name) }
                        polyline class="curve" points=(curve.points.iter().map(|(number, found)| format!("{},{}", px(across.at(*number)), px(up.at(found.median)))).collect::<Vec<_>>().join(" ")) {}
                        @for (number, found) in &curve.points {
                            line class="whisker" x1=(px(across.at(*number))) x2=(px(across.at(*number))) y1=(px(up.at(found.low))) y2=(px(up.at(found.high))) {}
                            (shape(place, across.at(*number), up.at(found.median)))
                        }
                        line class="leader" x1=(px(x + 4.0)) x2=(px(RIGHT + 3.0)) y1=(px(y)) y2=(px(label)) {}
                        text class="end" x=(px(RIGHT + 5.0)) y=(px(label + 3.4)) { (short(&curve.subject.name, 24)) }
                    }
                }
            }
        }
    }
}

/// Where labels stand that would like to stand at `wishes`, none over another, all between `top` and `bottom`.
fn apart(wishes: &[f64], top: f64, bottom: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..wishes.len()).collect();
    order.sort_by(|one, other| wishes[*one].total_cmp(&wishes[*other]));
    let mut places = wishes.to_vec();
    let mut free = top;
    for place in &order {
        places[*place] = wishes[*place].max(free);
        free = places[*place] + LABEL;
    }
    let mut free = bottom;
    for place in order.iter().rev() {
        places[*place] = places[*place].min(free);
        free = places[*place] - LABEL;
    }
    places
}

/// Lines of one role have one colour; shapes tell them apart.
fn shape(place: usize, x: f64, y: f64) -> Markup {
    html! {
        @match place % 4 {
            0 => circle class="dot" cx=(px(x)) cy=(px(y)) r="3.2" {},
            1 => rect class="dot" x=(px(x - 3.0)) y=(px(y - 3.0)) width="6" height="6" {},
            2 => path class="dot" d={ "M" (px(x)) " " (px(y - 4.4)) "l4.4 4.4l-4.4 4.4l-4.4-4.4z" } {},
            _ => path class="dot" d={ "M" (px(x)) " " (px(y - 4.2)) "l4 7.4h-8z" } {},
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

    #[test]
    fn labels_stand_apart_and_inside() {
        let places = apart(&[50.0, 10.0, 51.0, 52.0, 100.0], 10.0, 100.0);
        assert_eq!(places, [50.0, 10.0, 62.0, 74.0, 100.0]);
        assert_eq!(apart(&[99.0, 100.0, 98.0], 10.0, 100.0), [88.0, 100.0, 76.0]);
    }
}
