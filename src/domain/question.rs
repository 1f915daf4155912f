//! What can be asked: an operation, in a role, with an SMS going one way or the other.
//!
//! Not here: the answer (see `decision`).

use super::matrix::Row;

/// What a caller wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Enable users for 2FA.
    EnableUsers,
    /// Disable users for 2FA.
    DisableUsers,
    /// The *Send Application* step (footnote 1).
    ProvisionUsers,
    /// A user enrolls by themselves (footnote 2).
    SelfEnroll,
    /// Asked before an SMS is sent.
    AuthenticateWithSmsOtp,
    /// An OTP of the mobile app.
    AuthenticateWithMobileOtp,
    /// A push to the mobile app.
    AuthenticateWithMobilePush,
    /// A hard token.
    AuthenticateWithHardToken,
    /// FIDO.
    AuthenticateWithFido,
    /// The system configuration.
    ManageConfiguration,
    /// Turn off authentication for all users (footnote 3).
    TurnOffAuthentication,
    /// Verify an SMS OTP that was already sent.
    VerifySmsOtp,
}

/// In which role somebody acts, once the caller's right to say so is settled (semantics 4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// A user.
    User,
    /// An administrator a trusted caller vouches for.
    Administrator,
    /// A service acting on its own.
    Service,
}

/// How an SMS is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SmsDelivery {
    /// By the vendor, for credits.
    VendorCredits,
    /// By a gateway of the customer's own (semantics 4.2).
    OwnGateway,
}

/// One question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Question {
    /// What is about to be done.
    pub operation: Operation,
    /// By whom.
    pub role: Role,
    /// How the SMS goes.
    pub sms_delivery: SmsDelivery,
}

impl Operation {
    /// Every operation, in the order of the public contract.
    pub const ALL: [Self; 12] = [
        Self::EnableUsers,
        Self::DisableUsers,
        Self::ProvisionUsers,
        Self::SelfEnroll,
        Self::AuthenticateWithSmsOtp,
        Self::AuthenticateWithMobileOtp,
        Self::AuthenticateWithMobilePush,
        Self::AuthenticateWithHardToken,
        Self::AuthenticateWithFido,
        Self::ManageConfiguration,
        Self::TurnOffAuthentication,
        Self::VerifySmsOtp,
    ];

    /// The row of the table it follows (semantics 4).
    #[must_use]
    pub const fn row(self) -> Row {
        match self {
            Self::EnableUsers => Row::EnableUsers,
            Self::DisableUsers => Row::DisableUsers,
            Self::ProvisionUsers => Row::ProvisionUsers,
            Self::AuthenticateWithSmsOtp | Self::VerifySmsOtp => Row::AuthenticateWithSmsOtp,
            Self::SelfEnroll | Self::AuthenticateWithMobileOtp | Self::AuthenticateWithMobilePush => {
                Row::AuthenticateWithMobileApp
            }
            Self::AuthenticateWithHardToken | Self::AuthenticateWithFido => {
                Row::AuthenticateWithHardTokenOrFido
            }
            Self::ManageConfiguration | Self::TurnOffAuthentication => Row::ManageConfiguration,
        }
    }
}
