//! A sentence as the model sees it.

/// A range of bytes of the sentence's UTF-8 text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte; equal to `start` for a token that stands for no text (an added BOS).
    pub end: u32,
}

/// The tokens of one sentence, BOS included where the tokenizer adds one. All vectors have one entry a token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Vocabulary ids.
    pub ids: Vec<u32>,
    /// The text that each token covers. Tokens that split a character both cover all of it.
    pub spans: Vec<Span>,
    /// Each token decoded by itself, with U+FFFD for bytes that are not a character alone.
    pub strs: Vec<String>,
    /// Whether the token is a special one of the vocabulary.
    pub special: Vec<bool>,
    /// Whether the token is BOS, wherever it stands: such rows never reach an output.
    pub bos: Vec<bool>,
}

impl Tokens {
    /// How many tokens there are, BOS included.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is no token at all.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Drops all tokens after the first `len`.
    pub fn truncate(&mut self, len: usize) {
        self.ids.truncate(len);
        self.spans.truncate(len);
        self.strs.truncate(len);
        self.special.truncate(len);
        self.bos.truncate(len);
    }

    /// The positions whose rows are output: all but BOS.
    pub fn output_positions(&self) -> impl Iterator<Item = usize> + '_ {
        self.bos.iter().enumerate().filter(|(_, bos)| !**bos).map(|(position, _)| position)
    }
}
