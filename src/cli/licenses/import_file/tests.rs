//! What an import reads, and what it says of files that are wrong.

use super::*;

fn faults(text: &str, format: FileFormat) -> String {
    let faults = licenses(text, format).expect_err("it is wrong");
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn csv_and_json_read_the_same() {
    let csv = "license_id,name,seats,expires_at,sms_credits,attribute.cost_centre\r\n\
               3A8-WN7-7TD,\"Head, office\",150,2027-06-30T12:00:00Z,,4711\r\n\
               ,,0,2027-06-30T14:00:00+02:00,500,\r\n";
    let json = r#"[{"license_id": "3A8-WN7-7TD", "name": "Head, office", "seats": 150,
                    "expires_at": "2027-06-30T12:00:00Z", "sms_credits": null, "attributes": {"cost_centre": 4711}},
                   {"seats": "0", "expires_at": "2027-06-30T12:00:00Z", "sms_credits": 500}]"#;
    let read = licenses(csv, FileFormat::Csv).unwrap();
    assert_eq!(read, licenses(json, FileFormat::Json).unwrap());
    assert_eq!((read[0].seats, read[0].sms_credits, read[1].sms_credits), (150, None, Some(500)));
    assert_eq!(read[0].attributes.get("cost_centre").map(String::as_str), Some("4711"));
    assert_eq!(read[0].seat_kind, i32::from(api::SeatKind::Users));
    assert!(read[1].attributes.is_empty());
}

#[test]
fn every_fault_of_a_csv_is_told_at_once_with_line_and_column() {
    let csv = "license_id,seats,expires_at,seat_kind\n\
               AAA-AAA-AAA,many,2027-06-30T12:00:00Z,users\n\
               BBB-BBB-BBB,5,tomorrow,chairs\n\
               too,few\n\
               \"AAA-AAA-AAA\",,2027-06-30T12:00:00Z,\n";
    assert_eq!(
        faults(csv, FileFormat::Csv),
        "line 2, column `seats`: `many` is not a whole number\n\
         line 3, column `seat_kind`: `chairs` is no kind of seat; known are: users, units\n\
         line 3, column `expires_at`: `tomorrow` is not an instant; write it like `2027-06-30T12:00:00Z`\n\
         line 4: 2 cells under 4 columns\n\
         line 5, column `license_id`: `AAA-AAA-AAA` is on line 2 already\n\
         line 5, column `seats`: it is needed"
    );
}

#[test]
fn a_header_that_cannot_be_read_is_told_alone() {
    let known = rows::COLUMNS.join(", ");
    assert_eq!(
        faults("seats,colour,seats\n1,2,3\n", FileFormat::Csv),
        format!(
            "line 1, column `colour`: it is not known; known are: {known}, attribute.KEY\n\
             line 1, column `seats`: it is there twice\n\
             line 1, column `expires_at`: it is needed, and is not in the header"
        )
    );
    assert_eq!(faults("seats,expires_at\n", FileFormat::Csv), "line 1: there is no license in it");
}

#[test]
fn every_fault_of_a_json_is_told_at_once_with_the_line_its_license_begins_on() {
    let json = "[\n  {\"seats\": 1.5, \"expires_at\": \"2027-06-30T12:00:00Z\",\n   \"name\": \"a, [b\"},\n\n  7,\n  \
                {\"seats\": true, \"expires_at\": \"2027-06-30T12:00:00Z\", \"attributes\": {\"a\": []}}]";
    assert_eq!(
        faults(json, FileFormat::Json),
        "line 2, column `seats`: `1.5` is not a whole number\n\
         line 5: `7` is no object\n\
         line 6, column `seats`: `true` is neither a text nor a number\n\
         line 6, column `attribute.a`: `[]` is neither a text nor a number\n\
         line 6, column `seats`: it is needed"
    );
    let broken = faults("[\n{\"seats\": }]", FileFormat::Json);
    assert!(
        broken.starts_with("line 2: ") && broken.ends_with("; an array of objects is needed"),
        "{broken}"
    );
}

#[test]
fn no_more_than_a_thousand_are_issued_at_once() {
    let csv = |count| "seats,expires_at\n".to_owned() + &"1,2027-06-30T12:00:00Z\n".repeat(count);
    assert_eq!(licenses(&csv(1_000), FileFormat::Csv).unwrap().len(), 1_000);
    let faults = faults(&csv(1_001), FileFormat::Csv);
    assert!(faults.starts_with("line 1002: these are 1001 licenses"), "{faults}");
}

#[test]
fn what_spreadsheets_do_to_a_csv_is_taken() {
    let plain = licenses("name,seats,expires_at\na,5,2027-06-30T12:00:00Z\n", FileFormat::Csv).unwrap();
    for csv in [
        "name;seats;expires_at\na;5;2027-06-30T12:00:00Z\n",
        "name\tseats\texpires_at\na\t5\t2027-06-30T12:00:00Z\n",
        "sep=;\r\nname;seats;expires_at\r\na;5;2027-06-30T12:00:00Z\r\n",
        ",,\nname,seats,expires_at\n,,\n\na,5,2027-06-30T12:00:00Z\n , ,\n,,,,\n",
        "\"name\";\"seats\";\"expires_at\"\n\"a\";\"5\";\"2027-06-30T12:00:00Z\"\n;;\n",
    ] {
        assert_eq!(licenses(csv, FileFormat::Csv).unwrap(), plain, "{csv:?}");
    }
    let comma =
        licenses("name;seats;expires_at\n\"a;b, c\";5;2027-06-30T12:00:00Z\n", FileFormat::Csv).unwrap();
    assert_eq!(comma[0].name, "a;b, c");
    let told = faults("sep=;\nname;seats;expires_at\n;;\na;many;2027-06-30T12:00:00Z\n", FileFormat::Csv);
    assert_eq!(told, "line 4, column `seats`: `many` is not a whole number");
}
