//! The results of one study, a section for each group of its questions.

use maud::{Markup, html};

use super::words::{anchor, class, code, fate_told, heading};
use super::{dots, heat, series};
use crate::record::{Question, Role};
use crate::results::Results;
use crate::statistics::{Estimate, FEW, minimum};
use crate::targets::{self, Scale};

/// The groups of a study's questions, in the order of the questions.
pub fn groups(results: &Results) -> Vec<&str> {
    let mut groups: Vec<&str> = Vec::new();
    for question in &results.questions {
        if !groups.contains(&question.group.as_str()) {
            groups.push(&question.group);
        }
    }
    groups
}

/// Where a group stands on the page.
pub fn place(results: &Results, group: &str) -> String {
    format!("{}-{}", anchor(&results.run.study), anchor(group))
}

/// All of a study.
pub fn study(results: &Results) -> Markup {
    let title = match results.run.study.as_str() {
        "peers" => "Sandboxes against each other",
        "mechanisms" => "Mechanisms of the kernel",
        other => other,
    };
    html! {
        section class="study" {
            h2 { (heading(title)) }
            (key(results))
            @for name in groups(results) { (group(results, name)) }
            @if results.run.study == "peers" { (features(results)) }
        }
    }
}

/// What shapes and colours mean.
fn key(results: &Results) -> Markup {
    let roles = [
        (Role::Ours, "ours"),
        (Role::Peer, "another sandbox"),
        (Role::Mechanism, "a mechanism of the kernel"),
        (Role::Control, "native again, the control"),
    ];
    html! {
        ul class="legend" aria-label="shapes in the charts" {
            @for (role, words) in roles {
                @if results.subjects.iter().any(|subject| subject.role == role) {
                    li class=(class(role)) { svg class="key" viewBox="0 0 12 12" aria-hidden="true" { (dots::dot(role, 6.0, 6.0)) } (words) }
                }
            }
            li { span class="swatch band" {} "as far as native differs from itself" }
        }
    }
}

fn group(results: &Results, name: &str) -> Markup {
    let questions: Vec<&Question> = results.questions.iter().filter(|question| question.group == name).collect();
    let place = place(results, name);
    let lines = series::among(&questions);
    let in_lines = |question: &Question| {
        lines.iter().any(|series| series.questions.iter().any(|(_, other)| other.name == question.name))
    };
    let single: Vec<&&Question> = questions.iter().filter(|question| !in_lines(question)).collect();
    let disturbed: Vec<String> = results.disturbed().iter().map(|(question, _)| question.name.clone()).collect();
    html! {
        section id=(place) {
            h3 { (heading(name)) }
            @if let Some(table) = heat::table(results, &questions, &format!("{}: times native in the same round", heading(name))) {
                (table)
                (heat::legend())
            }
            div class="panels" {
                @for (number, series) in lines.iter().enumerate() {
                    @if let Some(chart) = series.chart(results, &format!("{place}-l{number}")) {
                        figure class="panel" { figcaption { (code(&series.asks())) } (chart) }
                    }
                }
                @for question in single {
                    @if let Some(chart) = dots::chart(results, question, &format!("{place}-{}", anchor(&question.name))) {
                        figure class="panel" {
                            figcaption {
                                (code(&question.asks))
                                @if let Some(native) = results.estimate(&question.name, results.native()) {
                                    span class="aside" { "natively " (question.unit.pretty(native.median)) }
                                }
                                @if disturbed.contains(&question.name) { strong class="chip noise-chip" { "disturbed" } }
                            }
                            (chart)
                        }
                    }
                }
            }
            details {
                summary { "All numbers of " q { (heading(name)) } }
                (numbers(results, &questions, &heading(name)))
            }
        }
    }
}

/// Every estimate: median, interval, minimum, ratio, rounds.
fn numbers(results: &Results, questions: &[&Question], caption: &str) -> Markup {
    html! {
        div class="scroll" tabindex="0" role="region" aria-label={ "all numbers of " (caption) } {
            table {
                caption { span { (caption) ": medians with their 95 % intervals" } }
                thead { tr {
                    th scope="col" { "question" } th scope="col" { "subject" } th scope="col" class="number" { "median" } th scope="col" class="number" { "interval" }
                    th scope="col" class="number" { "minimum" } th scope="col" class="number" { "times native" } th scope="col" class="number" { "interval" } th scope="col" class="number" { "rounds" }
                } }
                tbody {
                    @for question in questions {
                        @for subject in &results.subjects {
                            @if let Some(row) = results.row(&question.name, &subject.name) {
                                tr {
                                    th scope="row" { (code(&question.asks)) }
                                    td { (subject.name) }
                                    @if let Some(why) = &row.failure { td class="failed" colspan="6" { (fate_told(why)) } }
                                    @else { (estimates(results, question, &subject.name)) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn estimates(results: &Results, question: &Question, subject: &str) -> Markup {
    let values = results.row(&question.name, subject).map(crate::results::Row::values).unwrap_or_default();
    let pretty = |value| question.unit.pretty(value);
    let times = |value| Scale::Times.pretty(value);
    let dash = || "\u{2013}".to_owned();
    let found = results.estimate(&question.name, subject);
    let ratio = results.ratio(&question.name, subject).filter(|_| subject != results.native());
    let interval = |found: Option<Estimate>, pretty: &dyn Fn(f64) -> String| {
        found.map_or_else(dash, |found| format!("{} to {}", pretty(found.low), pretty(found.high)))
    };
    let few = if values.len() < FEW { ", range" } else { "" };
    html! {
        td class="number" { (found.map_or_else(dash, |found| pretty(found.median))) }
        td class="number" { (interval(found, &pretty)) (few) }
        td class="number" { (minimum(&values).map_or_else(dash, pretty)) }
        td class="number" { (ratio.map_or_else(dash, |ratio| times(ratio.median))) }
        td class="number" { (interval(ratio, &times)) }
        td class="number" { (values.len()) }
    }
}

/// What each mode of ours adds.
fn features(results: &Results) -> Markup {
    let (questions, prices) = targets::prices(results);
    html! {
        @if !prices.is_empty() {
            section id="features" {
                h3 { "The price of each feature" }
                p { "Times what " code { (targets::OURS) } " takes in the same round: what copy-on-write, rules about paths and each other feature add." }
                div class="scroll" tabindex="0" role="region" aria-label="the price of each feature" {
                    table class="heat" {
                        caption { span { "Times " code { (targets::OURS) } ", with 95 % intervals" } }
                        thead { tr {
                            th scope="col" { "feature" }
                            @for question in &questions { th scope="col" class="number" { (code(&question.asks)) } }
                        } }
                        tbody {
                            @for price in prices { tr {
                                th scope="row" { (price.subject) }
                                @for times in price.times {
                                    @match times {
                                        None => td class="number" { "\u{2013}" },
                                        Some(found) => td class={ "number " (heat::colour(&found, None)) } {
                                            (Scale::Times.pretty(found.median))
                                            small { (Scale::Times.pretty(found.low)) " to " (Scale::Times.pretty(found.high)) }
                                        },
                                    }
                                }
                            } }
                        }
                    }
                }
            }
        }
    }
}
