//! Questions over a real socket: what is answered, and what is refused with which status.

use esa_sidecar::{domain::facts::SmsCredits, proto::enforcement as api};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::sidecar::{ID, START, ScriptedSource, Sidecar, administrator, days, healthy, question};

const OTHER: &str = "BBB-BBB-BBB";

async fn refused(sidecar: &mut Sidecar, request: api::AuthorizeRequest) -> (Code, String, String) {
    let status = sidecar.authorize(request).await.unwrap_err();
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.domain, "esa-sidecar");
    (status.code(), info.reason, status.message().to_owned())
}

#[tokio::test]
async fn a_question_that_cannot_be_read_is_refused_with_the_field_and_what_to_do() {
    let mut sidecar =
        Sidecar::start(ScriptedSource::telling(vec![healthy(ID), healthy(OTHER)])).await.ready().await;
    let base = || question(api::Operation::EnableUsers);
    let actor = |role, id: String| Some(api::Actor { role, id });
    let rows = [
        (
            api::AuthorizeRequest { operation: 0, ..base() },
            Code::InvalidArgument,
            "FIELD_INVALID",
            "operation: missing",
        ),
        (
            api::AuthorizeRequest { operation: 99, ..base() },
            Code::InvalidArgument,
            "FIELD_INVALID",
            "operation: 99 is",
        ),
        (
            api::AuthorizeRequest { operation: -1, ..base() },
            Code::InvalidArgument,
            "FIELD_INVALID",
            "operation: -1 is",
        ),
        (
            api::AuthorizeRequest { actor: actor(9, String::new()), ..base() },
            Code::InvalidArgument,
            "FIELD_INVALID",
            "actor.role: 9 is",
        ),
        (
            api::AuthorizeRequest { actor: actor(1, "x".repeat(257)), ..base() },
            Code::InvalidArgument,
            "FIELD_INVALID",
            "actor.id: 257 bytes",
        ),
        (
            api::AuthorizeRequest { sms_delivery: 3, ..base() },
            Code::InvalidArgument,
            "FIELD_INVALID",
            "sms_delivery: 3 is",
        ),
        (
            api::AuthorizeRequest { subscription_id: "3A8WN77TD".to_owned(), ..base() },
            Code::InvalidArgument,
            "FIELD_INVALID",
            "subscription_id: `3A8WN77TD`",
        ),
        (
            api::AuthorizeRequest { subscription_id: String::new(), ..base() },
            Code::InvalidArgument,
            "SUBSCRIPTION_ID_REQUIRED",
            "subscription_id: 2 subscriptions",
        ),
        (
            api::AuthorizeRequest { subscription_id: "CCC-CCC-CCC".to_owned(), ..base() },
            Code::NotFound,
            "SUBSCRIPTION_NOT_HELD",
            "subscription `CCC-CCC-CCC`",
        ),
    ];
    for (request, code, reason, message) in rows {
        let (seen_code, seen_reason, seen_message) = refused(&mut sidecar, request).await;
        assert_eq!((seen_code, seen_reason.as_str()), (code, reason), "{seen_message}");
        assert!(seen_message.starts_with(message), "{seen_message}");
    }
    sidecar.stop().await;
}

#[tokio::test]
async fn a_subscription_is_found_whatever_the_case_of_its_id() {
    let mut sidecar =
        Sidecar::start(ScriptedSource::telling(vec![healthy(ID), healthy(OTHER)])).await.ready().await;
    let request =
        api::AuthorizeRequest { subscription_id: ID.to_lowercase(), ..question(api::Operation::EnableUsers) };
    assert_eq!(sidecar.authorize(request).await.unwrap().access(), api::Access::Allowed);
    sidecar.stop().await;
}

#[tokio::test]
async fn without_facts_only_footnote_3_is_answered() {
    let mut sidecar = Sidecar::start(ScriptedSource::unreachable()).await;
    for number in 1..=12 {
        let operation = api::Operation::try_from(number).unwrap();
        let (code, reason, _) = refused(&mut sidecar, question(operation)).await;
        assert_eq!((code, reason.as_str()), (Code::Unavailable, "NO_FACTS_YET"), "{operation:?}");
        let excepted =
            [api::Operation::DisableUsers, api::Operation::TurnOffAuthentication].contains(&operation);
        match sidecar.authorize(administrator(operation)).await {
            Ok(answer) => {
                assert!(excepted, "{operation:?} was answered");
                assert_eq!(answer.access(), api::Access::Allowed);
                assert_eq!(answer.reason(), api::Reason::AdministratorException);
                assert_eq!(answer.state(), api::SubscriptionState::Unspecified);
                assert_eq!((answer.revision, answer.as_of, answer.stale), (0, None, true));
            }
            Err(status) => {
                assert!(!excepted && status.code() == Code::Unavailable, "{operation:?}: {status}")
            }
        }
    }
    sidecar.stop().await;
}

#[tokio::test]
async fn a_batch_is_answered_in_order_and_a_bad_question_spoils_no_other() {
    let depleted = esa_sidecar::domain::Facts { sms_credits: Some(SmsCredits(0)), ..healthy(OTHER) };
    let mut sidecar =
        Sidecar::start(ScriptedSource::telling(vec![healthy(ID), depleted])).await.ready().await;
    let of =
        |id: &str, operation| api::AuthorizeRequest { subscription_id: id.to_owned(), ..question(operation) };
    let questions = vec![
        of(ID, api::Operation::AuthenticateWithSmsOtp),
        of(OTHER, api::Operation::AuthenticateWithSmsOtp),
        of(ID, api::Operation::Unspecified),
        of("CCC-CCC-CCC", api::Operation::EnableUsers),
        of(OTHER, api::Operation::VerifySmsOtp),
    ];
    let answer = sidecar.client.batch_authorize(api::BatchAuthorizeRequest { questions }).await.unwrap();
    let seen: Vec<String> =
        answer.into_inner().results.into_iter().map(|result| shown(result.result.unwrap())).collect();
    assert_eq!(
        seen,
        ["ALLOWED", "SMS_CREDITS_DEPLETED", "3 FIELD_INVALID", "5 SUBSCRIPTION_NOT_HELD", "ALLOWED"]
    );
    sidecar.stop().await;
}

fn shown(result: api::batch_authorize_result::Result) -> String {
    match result {
        api::batch_authorize_result::Result::Response(answer) => {
            answer.reason().as_str_name().replace("REASON_", "")
        }
        api::batch_authorize_result::Result::Error(error) => format!("{} {}", error.code, error.reason),
    }
}

#[tokio::test]
async fn a_batch_is_bounded_as_configured() {
    let source = ScriptedSource::telling(vec![healthy(ID)]);
    let mut sidecar = Sidecar::start_with(source, None, "limits.batch_questions = 3").await.ready().await;
    let batch =
        |count| api::BatchAuthorizeRequest { questions: vec![question(api::Operation::EnableUsers); count] };
    assert_eq!(sidecar.client.batch_authorize(batch(3)).await.unwrap().into_inner().results.len(), 3);
    let status = sidecar.client.batch_authorize(batch(4)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(status.message(), "questions: 4 given, at most 3 are taken in one call; send several");
    sidecar.stop().await;
}

#[tokio::test]
async fn a_stream_answers_in_order_and_goes_on_after_a_bad_question() {
    let mut sidecar = Sidecar::start(ScriptedSource::telling(vec![healthy(ID)])).await.ready().await;
    let operations = [1, 0, 5, 99, 9];
    let questions = operations.map(|operation| api::StreamAuthorizeRequest {
        question: Some(api::AuthorizeRequest { operation, ..question(api::Operation::Unspecified) }),
    });
    let questions = questions.into_iter().chain([api::StreamAuthorizeRequest { question: None }]);
    let mut answers = sidecar
        .client
        .stream_authorize(tokio_stream::iter(questions.collect::<Vec<_>>()))
        .await
        .unwrap()
        .into_inner();
    let mut seen = Vec::new();
    while let Some(answer) = answers.message().await.unwrap() {
        seen.push(match answer.result.unwrap() {
            api::stream_authorize_response::Result::Response(answer) => {
                answer.access().as_str_name().to_owned()
            }
            api::stream_authorize_response::Result::Error(error) => error.message.chars().take(12).collect(),
        });
    }
    let expected = [
        "ACCESS_ALLOWED",
        "operation: m",
        "ACCESS_ALLOWED",
        "operation: 9",
        "ACCESS_ALLOWED",
        "question: mi",
    ];
    assert_eq!(seen, expected);
    sidecar.stop().await;
}

#[tokio::test]
async fn facts_too_old_are_not_answered_from_where_the_operator_says_so() {
    let toml = "staleness.stale_after = '1d'\nstaleness.operations.enable_users = '3d'";
    let source = ScriptedSource::telling(vec![healthy(ID)]);
    let mut sidecar = Sidecar::start_with(source.clone(), None, toml).await.ready().await;
    source.script(Err(esa_sidecar::source::SourceError::Unreachable("away".to_owned())));

    sidecar.clock.set(START + days(1));
    assert!(!sidecar.authorize(question(api::Operation::EnableUsers)).await.unwrap().stale);
    sidecar.clock.set((START + days(1)).next());
    assert!(sidecar.authorize(question(api::Operation::EnableUsers)).await.unwrap().stale);

    sidecar.clock.set(START + days(3));
    assert!(sidecar.authorize(question(api::Operation::EnableUsers)).await.is_ok());
    sidecar.clock.set((START + days(3)).next());
    let (code, reason, _) = refused(&mut sidecar, question(api::Operation::EnableUsers)).await;
    assert_eq!((code, reason.as_str()), (Code::Unavailable, "FACTS_TOO_OLD"));
    // Nobody is kept from signing in.
    assert!(sidecar.authorize(question(api::Operation::AuthenticateWithFido)).await.is_ok());
    sidecar.stop().await;
}

#[tokio::test]
async fn footnote_3_outlives_facts_too_old_for_everything() {
    let source = ScriptedSource::telling(vec![healthy(ID)]);
    let mut sidecar =
        Sidecar::start_with(source, None, "staleness.unavailable_after = '3d'").await.ready().await;
    sidecar.clock.set((START + days(3)).next());
    let (code, _, _) = refused(&mut sidecar, question(api::Operation::AuthenticateWithFido)).await;
    assert_eq!(code, Code::Unavailable);
    let answer = sidecar.authorize(administrator(api::Operation::DisableUsers)).await.unwrap();
    assert_eq!(answer.access(), api::Access::Allowed);
    sidecar.stop().await;
}

#[tokio::test]
async fn an_sms_id_counts_once_and_depletion_shows_at_once() {
    let facts = esa_sidecar::domain::Facts { sms_credits: Some(SmsCredits(3)), ..healthy(ID) };
    let source = ScriptedSource::telling(vec![facts.clone()]);
    let mut sidecar = Sidecar::start(source.clone()).await.ready().await;
    let sent = |id: &str, credits| api::SmsSent { id: id.to_owned(), credits };
    let report = |sms_sent| api::ReportUsageRequest { sms_sent, ..api::ReportUsageRequest::default() };

    let first =
        sidecar.client.report_usage(report(vec![sent("a", 0), sent("a", 0), sent("b", 1)])).await.unwrap();
    let expected = api::ReportUsageResponse {
        sms_counted: 2,
        sms_repeated: 1,
        sms_credits: Some(1),
        counts_taken: false,
    };
    assert_eq!(first.into_inner(), expected);
    let again =
        sidecar.client.report_usage(report(vec![sent("b", 1), sent("c", 9)])).await.unwrap().into_inner();
    assert_eq!((again.sms_counted, again.sms_credits), (1, Some(0)), "the pool never goes below zero");
    let answer = sidecar.authorize(question(api::Operation::AuthenticateWithSmsOtp)).await.unwrap();
    assert_eq!(answer.reason(), api::Reason::SmsCreditsDepleted);
    let verify = sidecar.authorize(question(api::Operation::VerifySmsOtp)).await.unwrap();
    assert_eq!(verify.access(), api::Access::Allowed, "the last credit's code must still verify");

    // The same number told again does not give spent credits back; another number does.
    assert_eq!(sidecar.refresh().await.outcome(), api::RefreshOutcome::Unchanged);
    assert_eq!(sidecar.subscription(ID).await.usage.unwrap().sms_credits, Some(0));
    source.tell(vec![esa_sidecar::domain::Facts { sms_credits: Some(SmsCredits(50)), ..facts }]);
    sidecar.refresh().await;
    assert_eq!(sidecar.subscription(ID).await.usage.unwrap().sms_credits, Some(50));
    sidecar.stop().await;
}
