//! Which questions of a batch have the same answer: those that differ in nothing but who the actor is.
//!
//! A page of a thousand users asks the same few questions over and over, each of another actor. What a question is alike by
//! is found where it arrived, for reading it whole takes longer than answering it. Not here: answers.

use prost::encoding::{WireType, decode_varint};

use crate::enforcement::answer::LONGEST_ACTOR_ID;

/// All that the answer to a question of one caller depends on, as it was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Likeness<'a> {
    subscription_id: &'a [u8],
    operation: u64,
    /// None without an actor.
    role: Option<u64>,
    sms_delivery: u64,
}

impl<'a> Likeness<'a> {
    /// What `question`, an `AuthorizeRequest`, is alike by; none if it is anything but the usual, or its actor is refused.
    pub(super) fn of(mut question: &'a [u8]) -> Option<Self> {
        const SUBSCRIPTION_ID: u8 = key(1, WireType::LengthDelimited);
        const OPERATION: u8 = key(2, WireType::Varint);
        const ACTOR: u8 = key(3, WireType::LengthDelimited);
        const SMS_DELIVERY: u8 = key(4, WireType::Varint);
        let mut likeness = Self::default();
        while let Some(key) = question.split_off_first() {
            match *key {
                SUBSCRIPTION_ID => likeness.subscription_id = delimited(&mut question)?,
                OPERATION => likeness.operation = decode_varint(&mut question).ok()?,
                // A second one would be added to the first.
                ACTOR if likeness.role.is_none() => {
                    likeness.role = Some(role_of(delimited(&mut question)?)?);
                }
                SMS_DELIVERY => likeness.sms_delivery = decode_varint(&mut question).ok()?,
                _ => return None,
            }
        }
        Some(likeness)
    }
}

fn role_of(mut actor: &[u8]) -> Option<u64> {
    const ROLE: u8 = key(1, WireType::Varint);
    const ID: u8 = key(2, WireType::LengthDelimited);
    let mut role = 0;
    while let Some(key) = actor.split_off_first() {
        match *key {
            ROLE => role = decode_varint(&mut actor).ok()?,
            ID => {
                let id = delimited(&mut actor)?;
                let reads = id.len() <= LONGEST_ACTOR_ID && (id.is_ascii() || str::from_utf8(id).is_ok());
                reads.then_some(())?;
            }
            _ => return None,
        }
    }
    Some(role)
}

/// The questions of `batch`, a `BatchAuthorizeRequest`; none if it is anything but the usual.
pub(super) fn questions(mut batch: &[u8]) -> Option<Vec<&[u8]>> {
    const QUESTION: u8 = key(1, WireType::LengthDelimited);
    let mut questions = Vec::new();
    while let Some(key) = batch.split_off_first() {
        (*key == QUESTION).then_some(())?;
        questions.push(delimited(&mut batch)?);
    }
    Some(questions)
}

/// What a field begins with whose number is less than 16.
const fn key(number: u8, kind: WireType) -> u8 {
    number << 3 | kind as u8
}

/// Takes what has a length off `message`.
fn delimited<'a>(message: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(decode_varint(message).ok()?).ok()?;
    message.split_off(..length)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::proto::enforcement::{Actor, AuthorizeRequest, BatchAuthorizeRequest};

    fn asked_by(id: &str) -> AuthorizeRequest {
        AuthorizeRequest {
            subscription_id: "3A8-WN7-7TD".to_owned(),
            operation: 1,
            actor: Some(Actor { role: 2, id: id.to_owned() }),
            sms_delivery: 1,
        }
    }

    #[test]
    fn questions_that_differ_in_who_the_actor_is_are_alike_and_in_nothing_else() {
        let asked = asked_by("alice").encode_to_vec();
        let one = Likeness::of(&asked);
        assert!(one.is_some());
        assert_eq!(Likeness::of(&asked_by("bob from elsewhere").encode_to_vec()), one);
        let differing: [fn(&mut AuthorizeRequest); 5] = [
            |question| question.subscription_id = "3A8-WN7-7TE".to_owned(),
            |question| question.operation = 2,
            |question| question.actor.as_mut().unwrap().role = 1,
            |question| question.actor = None,
            |question| question.sms_delivery = 2,
        ];
        for differ in differing {
            let mut question = asked_by("alice");
            differ(&mut question);
            assert_ne!(Likeness::of(&question.encode_to_vec()), one, "{question:?}");
        }
    }

    #[test]
    fn a_question_that_is_refused_for_its_actor_is_like_no_other() {
        assert_eq!(Likeness::of(&asked_by(&"x".repeat(257)).encode_to_vec()), None);
        assert!(Likeness::of(&asked_by(&"x".repeat(256)).encode_to_vec()).is_some());
        // 0xff is in no UTF-8.
        assert_eq!(Likeness::of(&[26, 3, 18, 1, 0xff]), None);
        assert!(Likeness::of(&[26, 3, 18, 1, b'x']).is_some());
    }

    #[test]
    fn the_questions_of_a_batch_are_what_prost_reads() {
        let asked: Vec<_> = ["alice", "bob", ""].map(asked_by).into();
        let batch = BatchAuthorizeRequest { questions: asked.clone() }.encode_to_vec();
        let read = questions(&batch)
            .unwrap()
            .into_iter()
            .map(|question| AuthorizeRequest::decode(question).unwrap());
        assert_eq!(read.collect::<Vec<_>>(), asked);
        assert_eq!(questions(&batch[..batch.len() - 1]), None);
        assert_eq!(questions(&[&batch[..], &[16, 1]].concat()), None);
        assert_eq!(questions(&[]), Some(Vec::new()));
    }

    #[test]
    fn what_does_not_read_is_like_nothing() {
        for question in
            [&[26, 3, 18, 1][..], &[26, 2, 18, 1], &[16], &[0], &[10, 5, b'x'], &[19], &[18, 1, 1]]
        {
            assert_eq!(Likeness::of(question), None, "{question:?}");
        }
    }

    /// Fields that say something, in any order and number, some of them over again and some that nobody knows.
    fn messages() -> impl Strategy<Value = Vec<u8>> {
        let small = 0_u8..4;
        let inner = prop_oneof![
            small.clone().prop_map(|role| vec![8, role]),
            "[a-c]{0,3}".prop_map(|id| [&[18, id.len() as u8][..], id.as_bytes()].concat()),
            small.clone().prop_map(|unknown| vec![32, unknown]),
        ];
        let actor = prop::collection::vec(inner, 0..3).prop_map(|fields| {
            let fields = fields.concat();
            [&[26, fields.len() as u8][..], &fields].concat()
        });
        let field = prop_oneof![
            "[a-c]{0,2}".prop_map(|id| [&[10, id.len() as u8][..], id.as_bytes()].concat()),
            small.clone().prop_map(|operation| vec![16, operation]),
            actor,
            small.prop_map(|delivery| vec![32, delivery]),
        ];
        prop::collection::vec(field, 0..4).prop_map(|fields| fields.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn what_is_alike_reads_alike_but_for_who_the_actor_is(
            one in messages(), other in messages(), cut in 0_usize..3, cut_other in 0_usize..3
        ) {
            let without_end = |message: &[u8], cut: usize| message[..message.len().saturating_sub(cut)].to_vec();
            let (one, other) = (without_end(&one, cut), without_end(&other, cut_other));
            let read = |bytes: &[u8]| {
                let mut question = AuthorizeRequest::decode(bytes).ok()?;
                question.actor.iter_mut().for_each(|actor| actor.id.clear());
                Some(question)
            };
            if Likeness::of(&one).is_some_and(|likeness| Some(likeness) == Likeness::of(&other)) {
                prop_assert_eq!(read(&one), read(&other));
            }
        }
    }
}
