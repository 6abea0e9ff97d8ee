//! A table whose cells are coloured by how many times native they are.

use maud::{Markup, html};

use super::words::{class, code, fate, unbroken};
use crate::record::{Question, Role, Subject};
use crate::results::Results;
use crate::statistics::Estimate;
use crate::targets::Scale;

/// Up to which ratio a cell has which colour.
const STEPS: [(f64, &str); 7] =
    [(0.952, "h-less"), (1.05, "h0"), (1.25, "h1"), (2.0, "h2"), (5.0, "h3"), (15.0, "h4"), (f64::INFINITY, "h5")];

/// The colour of a ratio. What cannot be told from 1, or from what native differs from itself, has none.
pub fn colour(ratio: &Estimate, control: Option<Estimate>) -> &'static str {
    let noise = control.map_or((1.0, 1.0), |control| (control.low.min(1.0), control.high.max(1.0)));
    if ratio.low <= noise.1 && ratio.high >= noise.0 {
        return "h0";
    }
    STEPS.iter().find(|(end, _)| ratio.median < *end).map_or("h0", |(_, colour)| colour)
}

/// What the colours mean.
pub fn legend() -> Markup {
    html! {
        ul class="legend heat-legend" aria-label="colours of the table" {
            li { span class="swatch h-less" {} "faster" }
            li { span class="swatch h0" {} "within 5 % or within noise" }
            li { span class="swatch h1" {} "to 1.25x" }
            li { span class="swatch h2" {} "to 2x" }
            li { span class="swatch h3" {} "to 5x" }
            li { span class="swatch h4" {} "to 15x" }
            li { span class="swatch h5" {} "more" }
        }
    }
}

/// More columns than this are lines instead.
const WIDEST: usize = 20;

/// A line a question, a column a subject, or the other way round when those are very many; none when native answered nothing.
pub fn table(results: &Results, questions: &[&Question], caption: &str) -> Option<Markup> {
    let native = results.native();
    let asked: Vec<&&Question> =
        questions.iter().filter(|question| results.estimate(&question.name, native).is_some()).collect();
    let told = |subject: &&Subject| {
        subject.role != Role::Native
            && asked.iter().any(|question| results.row(&question.name, &subject.name).is_some())
    };
    let subjects: Vec<&Subject> = results.subjects.iter().filter(told).collect();
    let disturbed = results.disturbed();
    let disturbed: Vec<&str> = disturbed.iter().map(|(question, _)| question.name.as_str()).collect();
    if asked.is_empty() || subjects.is_empty() {
        return None;
    }
    // The longer side goes down, for a page is scrolled down more easily than aside.
    if subjects.len() > WIDEST && subjects.len() > asked.len() {
        return Some(html! {
            div class="scroll" tabindex="0" role="region" aria-label=(caption) {
                table class="heat" {
                    caption { span { (caption) } }
                    thead { tr {
                        th scope="col" { "subject" }
                        @for question in &asked { th scope="col" class="number" { (code(&question.asks)) } }
                    } }
                    tbody {
                        @for subject in subjects { tr {
                            th scope="row" { (subject.name) }
                            @for question in &asked { (cell(results, question, subject)) }
                        } }
                    }
                }
            }
        });
    }
    Some(html! {
        div class="scroll" tabindex="0" role="region" aria-label=(caption) {
            table class="heat" {
                caption { span { (caption) } }
                thead { tr {
                    th scope="col" { "question" }
                    th scope="col" class="number" { "native" }
                    @for subject in &subjects { th scope="col" class={ "number " (class(subject.role)) } { (unbroken(&subject.name)) } }
                } }
                tbody {
                    @for question in asked { tr {
                        th scope="row" {
                            (code(&question.asks))
                            @if disturbed.contains(&question.name.as_str()) { " " strong class="chip noise-chip" { "disturbed" } }
                        }
                        td class="number" { @if let Some(found) = results.estimate(&question.name, native) { (question.unit.pretty(found.median)) } }
                        @for subject in &subjects { (cell(results, question, subject)) }
                    } }
                }
            }
        }
    })
}

/// What native is, measured again.
fn control(results: &Results, question: &Question) -> Option<Estimate> {
    let control = results.subjects.iter().find(|subject| subject.role == Role::Control)?;
    results.ratio(&question.name, &control.name)
}

fn cell(results: &Results, question: &Question, subject: &Subject) -> Markup {
    if let Some(why) = results.excuse(&question.name, &subject.name) {
        return html! { td class="number failed" title=(why) { (fate(why)) } };
    }
    match results.ratio(&question.name, &subject.name) {
        None => html! { td class="number" { "\u{2013}" } },
        Some(ratio) => {
            let pretty = |value| Scale::Times.pretty(value);
            let interval = format!("{} to {}", pretty(ratio.low), pretty(ratio.high));
            html! { td class={ "number " (colour(&ratio, control(results, question))) } title=(interval) { (pretty(ratio.median)) } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_has_no_colour() {
        let estimate = |low, median, high| Estimate { median, low, high };
        let alone = |low, median, high| colour(&estimate(low, median, high), None);
        assert_eq!(alone(0.9, 1.3, 1.9), "h0");
        assert_eq!(alone(1.2, 1.3, 1.4), "h2");
        assert_eq!(alone(0.8, 0.9, 0.95), "h-less");
        assert_eq!(alone(40.0, 42.0, 44.0), "h5");
        let control = Some(estimate(0.88, 0.92, 0.96));
        assert_eq!(colour(&estimate(0.9, 0.93, 0.96), control), "h0");
        assert_eq!(colour(&estimate(0.8, 0.83, 0.86), control), "h-less");
    }
}
