//! The printed restriction table: seven rows, six columns, and its footnotes beside it.
//!
//! Not here: overlapping states and who asks (see `decision`).

use super::state::SubscriptionState as State;

/// Whether an operation may go ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// It may.
    Allowed,
    /// It may not.
    Disabled,
}

/// A row of the table, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Row {
    /// Enable Users for 2FA.
    EnableUsers,
    /// Disable Users for 2FA.
    DisableUsers,
    /// Provision Users.
    ProvisionUsers,
    /// Authenticate with SMS OTP.
    AuthenticateWithSmsOtp,
    /// Authenticate with mobile app (OTP, Push).
    AuthenticateWithMobileApp,
    /// Authenticate with hard token or FIDO.
    AuthenticateWithHardTokenOrFido,
    /// Manage system configuration.
    ManageConfiguration,
}

impl Row {
    /// Every row, from the top.
    pub const ALL: [Self; 7] = [
        Self::EnableUsers,
        Self::DisableUsers,
        Self::ProvisionUsers,
        Self::AuthenticateWithSmsOtp,
        Self::AuthenticateWithMobileApp,
        Self::AuthenticateWithHardTokenOrFido,
        Self::ManageConfiguration,
    ];

    /// As printed.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::EnableUsers => "Enable Users for 2FA",
            Self::DisableUsers => "Disable Users for 2FA",
            Self::ProvisionUsers => "Provision Users",
            Self::AuthenticateWithSmsOtp => "Authenticate with SMS OTP",
            Self::AuthenticateWithMobileApp => "Authenticate with mobile app (OTP, Push)",
            Self::AuthenticateWithHardTokenOrFido => "Authenticate with hard token or FIDO",
            Self::ManageConfiguration => "Manage system configuration",
        }
    }

    /// The footnote printed beside it.
    #[must_use]
    pub const fn footnote(self) -> Option<u32> {
        match self {
            Self::ProvisionUsers => Some(1),
            Self::AuthenticateWithMobileApp => Some(2),
            Self::EnableUsers
            | Self::DisableUsers
            | Self::AuthenticateWithSmsOtp
            | Self::AuthenticateWithHardTokenOrFido
            | Self::ManageConfiguration => None,
        }
    }
}

/// A column of the table, from the left: its printed title, the states it stands for, its footnote.
pub type Column = (&'static str, &'static [State], Option<u32>);

/// The six columns.
pub const COLUMNS: [Column; 6] = [
    ("OK", &[State::Ok], None),
    ("Warning", &[State::Warning], None),
    ("SMS Credits depleted", &[State::SmsCreditsDepleted], None),
    ("Violation (full functionality)", &[State::ViolationFullFunctionality], None),
    ("Violation (limited functionality)", &[State::ViolationLimitedFunctionality], None),
    (
        "Not activated or ESET Secure Authentication disabled",
        &[State::NotActivated, State::Disabled],
        Some(3),
    ),
];

/// The footnotes, in our words.
pub const FOOTNOTES: [(u32, &str); 3] = [
    (
        1,
        "The step that sends the application to the user; self-enrollment is not part of it. \
         Authentication servers and provisioning servers both enforce it.",
    ),
    (2, "Self-enrollment follows this row."),
    (
        3,
        "An administrator may still disable 2FA for users, and may turn off authentication for all users \
         through the configuration or by uninstalling.",
    ),
];

/// The cell of `row` in the column of `state`.
#[must_use]
pub const fn cell(row: Row, state: State) -> Access {
    const Y: Access = Access::Allowed;
    const X: Access = Access::Disabled;
    let (ok, warning, sms_depleted, full, limited, not_activated_or_disabled) = match row {
        Row::EnableUsers => (Y, Y, Y, Y, X, X),
        Row::DisableUsers => (Y, Y, Y, Y, Y, X),
        Row::ProvisionUsers => (Y, Y, Y, Y, X, X),
        Row::AuthenticateWithSmsOtp => (Y, Y, X, Y, Y, X),
        Row::AuthenticateWithMobileApp => (Y, Y, Y, Y, Y, X),
        Row::AuthenticateWithHardTokenOrFido => (Y, Y, Y, Y, Y, X),
        Row::ManageConfiguration => (Y, Y, Y, Y, Y, X),
    };
    match state {
        State::Ok => ok,
        State::Warning => warning,
        State::SmsCreditsDepleted => sms_depleted,
        State::ViolationFullFunctionality => full,
        State::ViolationLimitedFunctionality => limited,
        State::NotActivated | State::Disabled => not_activated_or_disabled,
    }
}
