//! The profiles that are built in: policy files like any other, read by the same parser.

use super::Error;

/// The profile that is used when none is named.
pub const DEFAULT: &str = "default";

/// Name and text of each.
pub const ALL: [(&str, &str); 3] = [
    (DEFAULT, include_str!("profiles/default.toml")),
    ("dev", include_str!("profiles/dev.toml")),
    ("judge", include_str!("profiles/judge.toml")),
];

/// The text of the profile called `name`.
pub fn text(name: &str) -> Result<&'static str, Error> {
    let found = ALL.iter().find(|(known, _)| *known == name);
    found.map(|(_, text)| *text).ok_or_else(|| {
        let names = ALL.map(|(known, _)| known).join(", ");
        Error::new(format!("there is no profile {name:?}"), format!("choose one of {names}, or use --policy FILE"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_profile_names_those_that_exist() {
        let error = text("strict").unwrap_err().to_string();
        assert_eq!(error, "there is no profile \"strict\"; choose one of default, dev, judge, or use --policy FILE");
    }
}
