//! One question as a chart: a line for each subject, a dot where its median is, a whisker as long as its interval.

use maud::{Markup, html};

use super::axis::Axis;
use super::words::{class, fate_told, plain, short};
use crate::record::{Question, Role, Subject};
use crate::results::Results;
use crate::statistics::Estimate;
use crate::targets::Scale;

const WIDTH: f64 = 360.0;
const PLOT_END: f64 = 300.0;
const ROW: f64 = 20.0;
const TOP: f64 = 4.0;
/// As many letters of a name as have room at most.
const LETTERS: usize = 34;
/// How wide a letter is, about.
const LETTER: f64 = 5.75;

/// What a line of the chart says.
struct Line<'a> {
    subject: &'a Subject,
    answer: Result<Estimate, &'a str>,
}

/// The chart of a question: ratios to native, or amounts where native has no answer.
pub fn chart(results: &Results, question: &Question, id: &str) -> Option<Markup> {
    let native = results.native();
    let ratios = results.estimate(&question.name, native).is_some();
    let answer = |subject: &str| match ratios {
        true => results.ratio(&question.name, subject),
        false => results.estimate(&question.name, subject),
    };
    let lines: Vec<Line> = results
        .subjects
        .iter()
        .filter(|subject| subject.missing.is_none() && !(ratios && subject.name == native))
        .filter_map(|subject| {
            let failure = results.row(&question.name, &subject.name)?.failure.as_deref();
            let answer = match failure {
                // Native that has no answer has no sandbox: that is no failure to show.
                Some(_) if subject.role.is_native() => return None,
                Some(why) => Err(why),
                None => Ok(answer(&subject.name)?),
            };
            Some(Line { subject, answer })
        })
        .collect();
    if lines.is_empty() {
        return None;
    }
    let scale = if ratios { Scale::Times } else { Scale::Amount(question.unit) };
    Some(draw(&lines, scale, question, id))
}

fn draw(lines: &[Line], scale: Scale, question: &Question, id: &str) -> Markup {
    let ends = lines.iter().filter_map(|line| line.answer.ok()).flat_map(|found| [found.low, found.high]);
    let ends: Vec<f64> = ends.collect();
    let letters = lines.iter().map(|line| line.subject.name.chars().count()).max().unwrap_or(0).clamp(16, LETTERS);
    let plot = letters as f64 * LETTER + 8.0;
    let axis = match scale {
        Scale::Times => Axis::of_ratios(&ends, plot, PLOT_END),
        Scale::Amount(_) => Axis::of_amounts(&ends, plot, PLOT_END),
    };
    let bottom = TOP + ROW * lines.len() as f64;
    let height = bottom + 20.0;
    let kind = if scale == Scale::Times { "times native" } else { "amount" };
    let by = if axis.is_logarithmic() { ", logarithmic axis" } else { "" };
    let says = |line: &Line| match line.answer {
        Ok(found) => format!("{} {}", line.subject.name, scale.pretty(found.median)),
        Err(why) => format!("{} {}", line.subject.name, fate_told(why)),
    };
    let all: Vec<String> = lines.iter().map(says).collect();
    html! {
        svg class="chart" role="img" aria-labelledby={ (id) "-t " (id) "-d" } viewBox={ "0 0 " (WIDTH) " " (height) } {
            title id={ (id) "-t" } { (plain(&question.asks)) ", " (kind) (by) }
            desc id={ (id) "-d" } { (all.join("; ")) }
            (grid(&axis, scale, bottom))
            @if let Some(found) = lines.iter().find(|line| line.subject.role == Role::Control).and_then(|line| line.answer.ok()) {
                rect class="noise" x=(px(axis.at(found.low))) y=(TOP) width=(px((axis.at(found.high) - axis.at(found.low)).max(1.0))) height=(px(bottom - TOP)) {}
            }
            @if scale == Scale::Times { line class="unity" x1=(px(axis.at(1.0))) x2=(px(axis.at(1.0))) y1=(TOP) y2=(px(bottom)) {} }
            @for (place, line) in lines.iter().enumerate() {
                (row(line, &axis, scale, TOP + ROW * (place as f64 + 0.5)))
            }
        }
    }
}

/// A coordinate, as exact as a screen.
pub fn px(value: f64) -> String {
    format!("{value:.1}")
}

fn grid(axis: &Axis, scale: Scale, bottom: f64) -> Markup {
    let ticks = axis.ticks(if matches!(scale, Scale::Times) { 5 } else { 4 });
    // Labels of amounts are long: none where it would run into the one before.
    let mut free = 0.0;
    let labels: Vec<Option<String>> = ticks
        .iter()
        .map(|tick| {
            let label = mark(scale, *tick);
            let half = 3.2 * label.len() as f64;
            let fits = axis.at(*tick) - half >= free;
            fits.then(|| {
                free = axis.at(*tick) + half + 2.0;
                label
            })
        })
        .collect();
    html! {
        @for (tick, label) in ticks.iter().zip(labels) {
            line class="grid" x1=(px(axis.at(*tick))) x2=(px(axis.at(*tick))) y1=(TOP) y2=(px(bottom)) {}
            @if let Some(label) = label {
                text class="tick" x=(px(axis.at(*tick))) y=(px(bottom + 14.0)) text-anchor="middle" { (label) }
            }
        }
    }
}

/// What a mark of an axis says.
pub fn mark(scale: Scale, value: f64) -> String {
    match scale {
        Scale::Times => format!("{}x", (value * 1000.0).round() / 1000.0),
        Scale::Amount(_) if value == 0.0 => "0".to_owned(),
        Scale::Amount(unit) => unit.pretty(value).replace(".00 ", " ").replace(".0 ", " "),
    }
}

fn row(line: &Line, axis: &Axis, scale: Scale, y: f64) -> Markup {
    let name = &line.subject.name;
    let role = class(line.subject.role);
    html! {
        g class=(role) {
            title { (name) }
            text class="label" x=(px(axis.start() - 8.0)) y=(px(y + 3.8)) text-anchor="end" { (short(name, LETTERS)) }
            @match line.answer {
                Err(why) => text class="failed" x=(px(axis.start() + 2.0)) y=(px(y + 3.8)) { (short(&fate_told(why), 35)) },
                Ok(Estimate { median, low, high }) => {
                    @if matches!(scale, Scale::Amount(_)) && !axis.is_logarithmic() {
                        rect class="bar" x=(px(axis.start())) y=(px(y - 5.0)) width=(px(axis.at(median) - axis.start())) height="10" {}
                    }
                    line class="whisker" x1=(px(axis.at(low))) x2=(px(axis.at(high).max(axis.at(low) + 0.5))) y1=(px(y)) y2=(px(y)) {}
                    (dot(line.subject.role, axis.at(median), y))
                    text class="value" x=(px(WIDTH - 2.0)) y=(px(y + 3.8)) text-anchor="end" { (scale.pretty(median)) }
                }
            }
        }
    }
}

/// A role has a shape as well as a colour, for those who do not see the difference of colours.
pub fn dot(role: Role, x: f64, y: f64) -> Markup {
    html! {
        @match role {
            Role::Native | Role::Control => circle class="dot" cx=(px(x)) cy=(px(y)) r="3.6" {},
            Role::Ours => circle class="dot" cx=(px(x)) cy=(px(y)) r="4.4" {},
            Role::Peer => path class="dot" d={ "M" (px(x)) " " (px(y - 5.0)) "l5 5l-5 5l-5-5z" } {},
            Role::Mechanism => rect class="dot" x=(px(x - 3.8)) y=(px(y - 3.8)) width="7.6" height="7.6" {},
        }
    }
}
