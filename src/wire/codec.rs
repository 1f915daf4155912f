//! Messages as they are written and read, in buffers that begin small.
//!
//! Not here: which messages there are (see `proto`).

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::BufferSettings;
use tonic_prost::{ProstDecoder, ProstEncoder};

/// The codec of all generated code.
#[derive(Debug)]
pub struct Codec<T, U>(PhantomData<(T, U)>);

/// What is allocated for each direction of a call before anything of it is known, and how it grows. By default it would
/// be 8 KiB, which is most of what a call costs that is open and says nothing.
const BUFFER: usize = 256;

/// How much of a stream is put together before it is sent.
const SENT_TOGETHER: usize = 32 << 10;

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> tonic::codec::Codec for Codec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> ProstEncoder<T> {
        ProstEncoder::new(BufferSettings::new(BUFFER, SENT_TOGETHER))
    }

    fn decoder(&mut self) -> ProstDecoder<U> {
        ProstDecoder::new(BufferSettings::new(BUFFER, SENT_TOGETHER))
    }
}
