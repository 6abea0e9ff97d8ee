//! The parts of the page that speak of whole runs.

use maud::{Markup, html};

use super::Source;
use super::axis::Axis;
use super::base64::encode;
use super::dots::px;
use super::words::{code, heading, plain, unbroken};
use crate::published::Figure;
use crate::record::{Question, Role};
use crate::results::{Results, TOLERANCE};
use crate::statistics::{Estimate, FEW};
use crate::targets::{Scale, Target, Verdict};

fn fact<'a>(results: &'a Results, name: &str) -> Option<&'a str> {
    results.run.machine.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

fn date(results: &Results) -> &str {
    results.run.date.split('T').next().unwrap_or_default()
}

/// Who was asked what, where and when.
pub fn lead(studies: &[&Results]) -> Markup {
    html! {
        @for results in studies {
            @let present = results.subjects.iter().filter(|subject| subject.missing.is_none()).count();
            p class="lead" {
                (heading(&results.run.study)) ": " (present) " subjects, " (results.questions.len()) " questions"
                @if let Some((rounds, _)) = results.end { ", " (rounds) " interleaved rounds" }
                ", " time datetime=(results.run.date) { (date(results)) } ". "
                @if !results.run.version.is_empty() { (results.run.version) ". " }
                @if let Some(cpu) = fact(results, "cpu") { (cpu) }
                @if let Some(cpus) = fact(results, "cpus") { ", " (cpus) " CPUs" }
                @if let Some(kernel) = fact(results, "kernel") { ", Linux " (kernel) }
                "."
            }
        }
    }
}

/// What one must know before believing anything.
pub fn warnings(studies: &[&Results]) -> Markup {
    let mut warnings: Vec<String> = Vec::new();
    for results in studies {
        let study = heading(&results.run.study);
        match results.end {
            None => warnings.push(format!("{study}: the run was cut short.")),
            Some((rounds, _)) if rounds < FEW => {
                warnings.push(format!(
                    "{study}: only {rounds} rounds. What stands as an interval is the range of all samples."
                ));
            }
            Some(_) => {}
        }
        if let Some(company) = results.company() {
            warnings.push(format!("{study}: {company}."));
        }
        if results.run.quick {
            warnings.push(format!("{study}: this was the quick form."));
        }
        let disturbed = results.disturbed();
        if !disturbed.is_empty() {
            let off =
                |(question, ratio): &(&Question, Estimate)| format!("{} {:.2}x", plain(&question.asks), ratio.median);
            let (count, all) = (disturbed.len(), results.questions.len());
            let places: Vec<String> = disturbed.iter().map(off).collect();
            warnings.push(format!(
                "{study}: disturbed in {count} of {all} questions, where native measured again should be 1x: {}.",
                places.join("; ")
            ));
        }
    }
    if let [first, rest @ ..] = studies
        && rest
            .iter()
            .any(|other| fact(other, "kernel") != fact(first, "kernel") || fact(other, "cpu") != fact(first, "cpu"))
    {
        warnings.push("The studies are of different machines.".to_owned());
    }
    html! {
        @if !warnings.is_empty() {
            aside class="warnings" role="note" aria-label="warnings" {
                h2 { "Read this first" }
                ul { @for warning in warnings { li { (warning) } } }
            }
        }
    }
}

fn chip(verdict: Verdict) -> Markup {
    let (kind, sign) = match verdict {
        Verdict::Met => ("met", "\u{2713}"),
        Verdict::Noise => ("noise-chip", "\u{2248}"),
        Verdict::Missed => ("missed", "\u{2717}"),
        Verdict::Unmeasured => ("unmeasured", "\u{2013}"),
    };
    html! { span class={ "chip " (kind) } { span aria-hidden="true" { (sign) } " " (verdict.words()) } }
}

/// The promises and whether they were kept.
pub fn promises(targets: &[Target]) -> Markup {
    let count = |verdict| targets.iter().filter(|target| target.verdict() == verdict).count();
    html! {
        section id="promises" {
            h2 { "Promises" }
            ul class="tiles" {
                @for verdict in Verdict::ALL { li { b { (count(verdict)) } (chip(verdict)) } }
            }
            div class="scroll" tabindex="0" role="region" aria-label="promises" {
                table class="promises" {
                    caption { span { "Each from one run, judged with its 95 % interval: met when all of it keeps the goal, missed when none of it does." } }
                    thead { tr { th scope="col" { "promise" } th scope="col" class="number" { "goal" } th scope="col" class="number" { "found" } th scope="col" class="picture" { "goal and interval" } th scope="col" { "verdict" } } }
                    tbody {
                        @for (number, target) in targets.iter().enumerate() { tr {
                            th scope="row" { (code(&target.what)) @if !target.note.is_empty() { small { (target.note) } } }
                            td class="number goal-cell" { "\u{2264}\u{a0}" (target.scale.pretty(target.goal)) }
                            td class="number found-cell" {
                                @if let Some(found) = target.value {
                                    (target.scale.pretty(found.median))
                                    small { (target.scale.pretty(found.low)) " to " (target.scale.pretty(found.high)) @if target.rounds < FEW { ", range" } }
                                } @else { "\u{2013}" }
                            }
                            td class="picture" { (bullet(target, number)) }
                            td class="verdict-cell" { (chip(target.verdict())) }
                        } }
                    }
                }
            }
        }
    }
}

/// The goal as a shaded stretch, what was found as a dot with a whisker.
fn bullet(target: &Target, number: usize) -> Markup {
    let Some(found) = target.value else { return html! {} };
    let axis = Axis::of_amounts(&[target.goal * 1.4, found.low, found.high], 2.0, 138.0);
    let verdict = target.verdict();
    let kind = match verdict {
        Verdict::Met => "met",
        Verdict::Missed => "missed",
        _ => "noise-chip",
    };
    html! {
        svg class="bullet" role="img" aria-labelledby={ "bullet-" (number) } viewBox="0 0 140 18" {
            title id={ "bullet-" (number) } { "goal " (target.scale.pretty(target.goal)) ", found " (target.found()) }
            rect class="goal" x="2" y="3" width=(px(axis.at(target.goal) - 2.0)) height="12" {}
            line class="goal-end" x1=(px(axis.at(target.goal))) x2=(px(axis.at(target.goal))) y1="1" y2="17" {}
            g class=(kind) {
                line class="whisker" x1=(px(axis.at(found.low))) x2=(px(axis.at(found.high).max(axis.at(found.low) + 0.5))) y1="9" y2="9" {}
                circle class="dot" cx=(px(axis.at(found.median))) cy="9" r="4" {}
            }
        }
    }
}

/// What others published.
pub fn published(figures: &[Figure], studies: &[&Results]) -> Markup {
    let beside = |figure: &Figure| {
        let (question, subject) = (figure.beside.as_ref()?.question.as_str(), figure.beside.as_ref()?.subject.as_str());
        studies.iter().find_map(|results| {
            let asked = results.question(question)?;
            let times = results.ratio(question, subject).map(|ratio| Scale::Times.pretty(ratio.median));
            let amount = || Some(asked.unit.pretty(results.estimate(question, subject)?.median));
            Some((times.or_else(amount)?, asked.asks.clone(), subject.to_owned()))
        })
    };
    html! {
        section id="published" {
            h2 { "Published figures" }
            p { "What others measured, on their machines and with their programs, quoted as they say it. It is here to compare orders of magnitude; none of it was measured in this run and none of it enters the charts above." }
            div class="scroll" tabindex="0" role="region" aria-label="published figures" {
                table {
                    caption { span { "Quoted, with source and machine; the last column is the nearest of ours in this run" } }
                    thead { tr { th scope="col" { "what" } th scope="col" { "figure" } th scope="col" { "machine" } th scope="col" { "source" } th scope="col" { "here" } } }
                    tbody {
                        @for figure in figures { tr {
                            th scope="row" { (figure.what) small { (figure.system) } }
                            td { (figure.figure) }
                            td { (figure.machine) }
                            td {
                                a href=(figure.url) rel="noreferrer" { (figure.source) }
                                @if !figure.read.is_empty() { small { (figure.read) } }
                            }
                            td {
                                @if let Some((found, asks, subject)) = beside(figure) {
                                    (found) small { (code(&asks)) ", " (unbroken(&subject)) }
                                } @else { "\u{2013}" }
                            }
                        } }
                    }
                }
            }
        }
    }
}

/// Somebody who has no number, and why.
pub struct Absence {
    /// Who.
    pub subject: String,
    /// In which question, or in all.
    pub what: String,
    /// In the subject's own words, if it had any.
    pub why: String,
}

/// Who is missing, and who failed at what.
pub fn absences(studies: &[&Results]) -> Vec<Absence> {
    let mut absences = Vec::new();
    for results in studies {
        for subject in &results.subjects {
            if let Some(missing) = &subject.missing {
                absences.push(Absence {
                    subject: subject.name.clone(),
                    what: "all questions".to_owned(),
                    why: missing.clone(),
                });
            }
        }
        for row in &results.rows {
            let subject = results.subject(&row.subject);
            let known = subject.is_some_and(|subject| subject.missing.is_some());
            if let (Some(why), false) = (&row.failure, known) {
                let asks = results.question(&row.question).map_or(&row.question, |question| &question.asks);
                absences.push(Absence { subject: row.subject.clone(), what: asks.clone(), why: why.clone() });
            }
        }
    }
    absences
}

/// The same on the page.
pub fn absent(studies: &[&Results]) -> Markup {
    let absences = absences(studies);
    html! {
        section id="absent" {
            h2 { "Who is missing or failed" }
            @if absences.is_empty() { p { "Nobody: every subject answered every question." } }
            @else {
                p { "Who failed once in a question has no number there, however fast it was before." }
                div class="scroll" tabindex="0" role="region" aria-label="who is missing or failed" {
                    table {
                        caption { span { "By name and reason" } }
                        thead { tr { th scope="col" { "subject" } th scope="col" { "question" } th scope="col" { "reason" } } }
                        tbody { @for absence in absences { tr {
                            th scope="row" { (absence.subject) } td { (code(&absence.what)) } td { (absence.why) }
                        } } }
                    }
                }
            }
        }
    }
}

/// How the numbers came about.
pub fn method(studies: &[&Results]) -> Markup {
    html! {
        section id="method" {
            h2 { "Method" }
            ul class="prose" {
                li { b { "Interleaved." } " In each round every subject answers every question once, and each round begins with another subject, so that what disturbs the machine disturbs all alike. A first round warms up and does not count." }
                li { b { "Pair by pair." } " A ratio compares a subject with native in the same round; the number shown is the median of those ratios, not the ratio of medians." }
                li { b { "Intervals." } " The samples are drawn again with replacement 2,000 times; the middle 95 % of the medians are the interval. Nothing assumes a bell curve, and the draws have a fixed seed: the same file gives the same page. Fewer than " (FEW) " rounds make no such interval; then it is the range of all samples, and the page says so." }
                li { b { "Control." } " Native runs a second time under another name. Where that is more than " (TOLERANCE * 100.0) "\u{a0}% off native the question is marked as disturbed. The grey band in the charts is the control's interval." }
                li { b { "Proof." } " A subject has to prove that its guest ran. Who fails, crashes or takes too long in a question has no number there." }
                li { b { "Axes." } " Linear where values lie together, logarithmic where they do not; ratios always show 1, and never less than a tenth to either side of it. Less is better everywhere." }
            }
            @for results in studies {
                details {
                    summary { "Subjects of the study " q { (results.run.study) } }
                    div class="scroll" tabindex="0" role="region" aria-label={ "subjects of " (results.run.study) } {
                        table {
                            caption { span { "What was measured, and how it was set up" } }
                            thead { tr { th scope="col" { "subject" } th scope="col" { "version" } th scope="col" { "how" } } }
                            tbody { @for subject in &results.subjects { tr {
                                th scope="row" { (subject.name) }
                                td { (subject.version.as_deref().unwrap_or("\u{2013}")) }
                                td { @if subject.how.is_empty() && subject.role != Role::Native { "\u{2013}" } @else { code class="long" { (subject.how) } } }
                            } } }
                        }
                    }
                }
            }
        }
    }
}

/// Everything that is known of the machines.
pub fn machine(studies: &[&Results]) -> Markup {
    let mut shown: Vec<&Results> = Vec::new();
    for results in studies {
        if !shown.iter().any(|other| other.run.machine == results.run.machine) {
            shown.push(results);
        }
    }
    html! {
        section id="machine" {
            h2 { "Machine" }
            @for results in shown {
                @let (mitigations, facts): (Vec<_>, Vec<_>) = results.run.machine.iter().partition(|(name, _)| name.starts_with("mitigation"));
                h3 { (heading(&results.run.study)) ", " (results.run.date) }
                (pairs(&facts, "Processor, kernel, clock"))
                @if !mitigations.is_empty() {
                    details { summary { "Mitigations (" (mitigations.len()) ")" } (pairs(&mitigations, "As the kernel names them")) }
                }
            }
        }
    }
}

fn pairs(facts: &[&(String, String)], caption: &str) -> Markup {
    html! {
        div class="scroll" tabindex="0" role="region" aria-label=(caption) {
            table class="facts" {
                caption { span { (caption) } }
                tbody { @for (name, value) in facts { tr {
                    th scope="row" { (name.strip_prefix("mitigation ").unwrap_or(name)) } td { (value) }
                } } }
            }
        }
    }
}

/// The results files themselves.
pub fn data(sources: &[Source]) -> Markup {
    html! {
        section id="data" {
            h2 { "Data" }
            p { "Every sample, one record of JSON a line. Everything on this page is made from these files." }
            ul class="downloads" {
                @for source in sources { li {
                    a download=(source.name) href={ "data:application/x-ndjson;base64," (encode(&source.raw)) } { (source.name) }
                    " (" (source.raw.len().div_ceil(1000)) " kB, " (source.results.rows.iter().map(|row| row.samples.len()).sum::<usize>()) " samples)"
                } }
            }
        }
    }
}
