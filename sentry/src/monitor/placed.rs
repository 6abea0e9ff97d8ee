//! Where each rule of a policy is enforced: in the cheapest layer that can.

/// A layer, from the cheapest to the dearest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layer {
    /// It needs none: the view has nothing that it could be about.
    None,
    /// Mounts of the view: ring 1, the kernel.
    View,
    /// A mount, and the rename family answered by the sentry.
    Moves,
    /// Calls that make or move names, answered by the sentry.
    Names,
    /// Every call that takes a path, answered by the sentry.
    Paths,
}

impl Layer {
    /// Its name.
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "-",
            Self::View => "view",
            Self::Moves => "view + sentry",
            Self::Names | Self::Paths => "sentry",
        }
    }

    /// What it costs.
    pub fn cost(self) -> &'static str {
        match self {
            Self::None | Self::View => "nothing per call",
            Self::Moves => "rename is answered by the sentry",
            Self::Names => "making and moving names is answered by the sentry",
            Self::Paths => "every path call is answered by the sentry",
        }
    }
}

/// One rule and its layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The option that asks for it.
    pub rule: String,
    /// Who enforces it.
    pub layer: Layer,
    /// How, if that is worth a word.
    pub remark: &'static str,
}
