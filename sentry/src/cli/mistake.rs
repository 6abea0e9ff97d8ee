//! Mistakes on the command line, each told in one line that ends with the remedy.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::policy::Error;

/// What is wrong with `args`, in our words where we know better than the parser, otherwise in the parser's.
pub(super) fn explain(error: &clap::Error, args: &[OsString]) -> Error {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let verb = args.get(1).map(|verb| verb.to_string_lossy()).unwrap_or_default();
    match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let name = context(ContextKind::InvalidSubcommand).unwrap_or_default();
            let similar = match error.get(ContextKind::SuggestedSubcommand) {
                Some(ContextValue::Strings(names)) => names.first().map(|name| format!("did you mean sentry {name}? ")),
                _ => None,
            };
            let remedy = format!("{}to run a program write sentry run -- {name}", similar.unwrap_or_default());
            Error::new(format!("there is no verb '{name}'"), remedy)
        }
        ErrorKind::UnknownArgument if verb == "run" => {
            let argument = context(ContextKind::InvalidArg).unwrap_or_default();
            if argument.starts_with('-') {
                return plain(error, "sentry run --help lists the options");
            }
            if args.iter().any(|argument| argument == "--") {
                let message = format!("'{argument}' belongs to no option");
                return Error::new(message, "repeat the option for each path, and put the program after --");
            }
            let typed = args.iter().position(|typed| typed.to_string_lossy() == argument);
            let command: Vec<_> =
                args[typed.unwrap_or(args.len())..].iter().map(|word| word.to_string_lossy()).collect();
            let command = if command.is_empty() { argument.to_owned() } else { command.join(" ") };
            Error::new(format!("'{argument}' must come after --"), format!("write sentry run -- {command}"))
        }
        _ => plain(error, &format!("sentry {verb} --help tells more")),
    }
}

/// The parser's own message without its layout: first paragraph, then its tips, or else `remedy`.
fn plain(error: &clap::Error, remedy: &str) -> Error {
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let told = text.split("\n\nUsage:").next().unwrap_or(text);
    let message = words(told.split("\n\n").next().unwrap_or(told));
    // How to pass a misspelt option on to a program is seldom what was meant.
    let tips = told.lines().filter_map(|line| line.trim_start().strip_prefix("tip: "));
    let tips: Vec<String> = tips.filter(|tip| !tip.starts_with("to pass ")).map(words).collect();
    // A parser of ours gives a remedy with its message already.
    match message.split_once("; ") {
        Some((message, remedy)) if tips.is_empty() => Error::new(message, remedy),
        _ if tips.is_empty() => Error::new(message, remedy),
        _ => Error::new(message, tips.join("; ")),
    }
}

/// The same words with one space between them.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Arguments may come from files and other programs: whatever could move the cursor or hide text is escaped. Line ends
/// stay, for policy files are quoted with carets.
pub(super) fn harmless(text: &str) -> String {
    text.lines().map(crate::report::escape).collect::<Vec<_>>().join("\n")
}
