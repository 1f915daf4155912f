//! What is read, what is refused, and with which path.

use super::*;

const FACTS: &str = r#"{"subscription_id": "3A8-WN7-7TD", "activation": {"state": "active"},
 "expires_at": "2027-06-30T12:00:00Z",
 "disabled_by_licensing": {"reason": "suspended", "since": "2026-11-01T08:00:00Z"},
 "users": {"active": 120, "licensed": 150, "overused_since": null},
 "all_users": {"count": 900, "limit": 1000}, "components": {"count": 10, "limit": 50}, "sms_credits": 500}"#;

#[test]
fn what_is_written_is_what_was_read() {
    let facts = read_all(FACTS.as_bytes()).unwrap();
    let written = serde_json::to_vec(&FactsJson::from(&facts[0])).unwrap();
    assert_eq!(read_all(&written).unwrap(), facts);
}

#[test]
fn what_may_be_null_may_be_left_out() {
    let left_out =
        FACTS.replace(r#", "sms_credits": 500"#, "").replace(r#", "overused_since": null"#, "").replace(
            r#" "disabled_by_licensing": {"reason": "suspended", "since": "2026-11-01T08:00:00Z"},"#,
            "",
        );
    let facts = read_all(left_out.as_bytes()).unwrap().remove(0);
    assert_eq!((facts.sms_credits, facts.disabled_by_licensing), (None, None));
}

#[test]
fn what_is_wrong_is_refused_with_its_path() {
    let swap = |this: &str, that: &str| {
        assert!(FACTS.contains(this), "{this}");
        FACTS.replacen(this, that, 1)
    };
    let whole = "a whole number from 0 to 18446744073709551615";
    let rows = [
        (swap("120", "-1"), format!("`users.active`: invalid type: integer `-1`, expected {whole}")),
        (swap("120", "1.5"), format!("`users.active`: invalid type: floating point `1.5`, expected {whole}")),
        (swap("120", "\"120\""), format!("`users.active`: invalid type: string \"120\", expected {whole}")),
        (swap("120", "18446744073709551616"), format!("expected {whole}")),
        (swap("\"active\": 120, ", ""), "`users`: missing field `active`".to_owned()),
        (
            swap("\"active\": 120", "\"active\": 120, \"activ\": 1"),
            "`users.activ`: unknown field `activ`".to_owned(),
        ),
        (
            swap("\"active\": 120", "\"active\": 120, \"active\": 1"),
            "`users`: duplicate field `active`".to_owned(),
        ),
        (
            swap("3A8-WN7-7TD", "3A8WN77TD"),
            "`subscription_id`: `3A8WN77TD` is no public license ID".to_owned(),
        ),
        (
            swap("2027-06-30T12:00:00Z", "2027-06-31T12:00:00Z"),
            "`expires_at`: `2027-06-31T12:00:00Z` is not an instant".to_owned(),
        ),
        (
            swap("{\"state\": \"active\"}", "{\"state\": \"deactivated\"}"),
            "`activation`: `since` is missing".to_owned(),
        ),
        (
            swap("{\"state\": \"active\"}", "{\"state\": \"active\", \"since\": \"2026-11-01T08:00:00Z\"}"),
            "`activation`: `since` belongs to".to_owned(),
        ),
        (
            swap("\"state\": \"active\"", "\"state\": \"dormant\""),
            "`activation.state`: unknown variant `dormant`".to_owned(),
        ),
        (swap("suspended", ""), "`disabled_by_licensing.reason`: a reason has 1 to 64 bytes".to_owned()),
        (
            swap("{\"count\": 900, \"limit\": 1000}", "[900, 1000]"),
            "`all_users`: invalid type: sequence, expected an object".to_owned(),
        ),
        (format!("[{FACTS}, {FACTS}]"), "`[1].subscription_id`: `3A8-WN7-7TD` is told twice".to_owned()),
        (format!("[{}]", swap("120", "-1")), "`[0].users.active`: ".to_owned()),
        (format!("{FACTS} x"), "trailing characters".to_owned()),
        ("[]".to_owned(), "no subscription in the array".to_owned()),
        (" \n".to_owned(), "the text is empty".to_owned()),
        ("7".to_owned(), "invalid type: integer `7`, expected an object".to_owned()),
    ];
    for (json, expected) in rows {
        let error = read_all(json.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(&expected), "expected `{expected}` in `{error}`");
    }
}

#[test]
fn a_file_is_read_however_an_editor_saved_it() {
    let facts = read_all(FACTS.as_bytes()).unwrap();
    for saved in [format!("\u{feff}{FACTS}"), FACTS.replace('\n', "\r\n"), format!("\u{feff}[{FACTS}]\r\n")] {
        assert_eq!(read_all(saved.as_bytes()).unwrap(), facts);
    }
    for bytes in [u16::to_le_bytes, u16::to_be_bytes] {
        let utf_16: Vec<u8> = format!("\u{feff}{FACTS}").encode_utf16().flat_map(bytes).collect();
        assert!(read_all(&utf_16).unwrap_err().to_string().contains("save it as UTF-8"));
    }
}
