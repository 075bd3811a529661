//! Text to tokens, exactly as the model's own tokenizer.json (or GGUF metadata) says.

use llamascope_record::Tokens;

use crate::Error;

/// A loaded tokenizer.
pub struct Tokenizer {}

impl Tokenizer {
    /// Tokens of a sentence, with whatever the tokenizer's own post-processor adds (BOS or not).
    pub fn encode(&self, text: &str) -> Result<Tokens, Error> {
        let _ = text;
        unimplemented!()
    }
}
