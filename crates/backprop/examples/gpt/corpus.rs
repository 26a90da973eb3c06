//! A text as numbers: what to train on and what to be judged by.

use std::collections::{BTreeSet, HashMap};

use backprop::{Error, ErrorKind, Result};

use crate::source::Source;

/// The different characters of a text, numbered in the order of their codes.
pub(crate) struct Vocabulary(Vec<char>);

impl Vocabulary {
    pub(crate) fn of(text: &str) -> Self {
        let characters: BTreeSet<char> = text.chars().collect();
        Self(characters.into_iter().collect())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The code of each character.
    pub(crate) fn codes(&self) -> Vec<i32> {
        self.0.iter().map(|&c| u32::from(c) as i32).collect()
    }

    /// The numbers of the characters; those that the vocabulary lacks are left out.
    pub(crate) fn encode(&self, text: &str) -> Vec<i32> {
        let numbered = self.0.iter().zip(0..);
        let numbers: HashMap<char, i32> = numbered.map(|(&c, number)| (c, number)).collect();
        let number = |c: char| numbers.get(&c).copied();
        text.chars().filter_map(number).collect()
    }

    pub(crate) fn decode(&self, tokens: &[i32]) -> String {
        let character = |&token: &i32| self.0.get(usize::try_from(token).ok()?);
        tokens.iter().filter_map(character).collect()
    }

    /// What a text starts after: the end of a line or, where there are no lines, the first character.
    pub(crate) fn start(&self) -> i32 {
        self.encode("\n").first().copied().unwrap_or(0)
    }
}

/// The tokens of a text, of which the last tenth is for validation. The vocabulary is that of the whole
/// text, so that a character which only the last tenth has is merely unlikely.
pub(crate) struct Corpus {
    pub vocabulary: Vocabulary,
    pub train: Vec<i32>,
    pub validation: Vec<i32>,
}

impl Corpus {
    /// An error if one of the parts does not fill a context.
    pub(crate) fn new(source: &Source, context: usize) -> Result<Self> {
        let vocabulary = Vocabulary::of(&source.text);
        let mut train = vocabulary.encode(&source.text);
        let count = train.len();
        let validation = train.split_off(count - count / 10);
        // A context and the character that follows it.
        if validation.len() <= context {
            let needed = 10 * (context + 1);
            let what = match count {
                0 => "there is no text".to_owned(),
                _ => format!("{count} characters are too few"),
            };
            let error = Error::new(ErrorKind::Format {
                file: source.name.clone(),
                what,
            });
            return Err(error.help(format!(
                "choose a text of at least {needed} characters with `--text FILE`: its last tenth, \
                 for validation, has to fill a context of {context}"
            )));
        }
        Ok(Self {
            vocabulary,
            train,
            validation,
        })
    }
}

/// The least mean loss, in nats per token, of whoever knows how often each token occurs and nothing
/// else: Shannon's entropy of the frequencies ("A mathematical theory of communication", 1948).
pub(crate) fn unigram_entropy(tokens: &[i32]) -> f64 {
    let mut counts: HashMap<i32, usize> = HashMap::new();
    for &token in tokens {
        *counts.entry(token).or_default() += 1;
    }
    let mut counts: Vec<usize> = counts.into_values().collect();
    // The order of a map changes from run to run, and with it the rounding of the sum.
    counts.sort_unstable();
    let information = |count: usize| {
        let share = count as f64 / tokens.len() as f64;
        share * share.recip().ln()
    };
    counts.into_iter().map(information).sum()
}

#[cfg(test)]
mod tests {
    use std::f64::consts::LN_2;

    use super::*;

    fn corpus(text: &str, context: usize) -> Result<Corpus> {
        let source = Source {
            name: "words.txt".to_owned(),
            text: text.to_owned(),
        };
        Corpus::new(&source, context)
    }

    #[test]
    fn any_text_comes_back_from_its_tokens() {
        let text = "zwölf Boxkämpfer\tjagen 🦀 über\r\n\u{feff}den\0Deich";
        let vocabulary = Vocabulary::of(text);
        let tokens = vocabulary.encode(text);
        assert_eq!(tokens.len(), text.chars().count());
        assert_eq!(vocabulary.decode(&tokens), text);
        assert_eq!(vocabulary.decode(&[vocabulary.start()]), "\n");
        assert_eq!(vocabulary.encode("?zw?"), vocabulary.encode("zw"));

        let vocabulary = Vocabulary::of("banana");
        assert_eq!(vocabulary.encode("banana"), [1, 0, 2, 0, 2, 0]);
        assert_eq!((vocabulary.len(), vocabulary.start()), (3, 0));
        assert_eq!(vocabulary.codes(), [97, 98, 110]);
        assert_eq!(vocabulary.decode(&[-1, 1, 3]), "b");
    }

    #[test]
    fn the_last_tenth_validates_and_may_have_characters_of_its_own() {
        let corpus = corpus(&("a".repeat(36) + "bcde"), 3).unwrap();
        assert_eq!(corpus.train, [0; 36]);
        assert_eq!(corpus.validation, [1, 2, 3, 4]);
    }

    #[test]
    fn says_when_a_text_is_too_short() {
        #[track_caller]
        fn check(text: &str, said: &str) {
            let error = corpus(text, 3).err().unwrap().to_string();
            assert!(error.contains(said), "{error}");
            assert!(error.contains("at least 40 characters"), "{error}");
        }
        check("", "words.txt: there is no text");
        check(&"ä".repeat(39), "words.txt: 39 characters are too few");
        assert!(corpus(&"ä".repeat(40), 3).is_ok());
    }

    #[test]
    fn entropies_of_known_texts() {
        #[track_caller]
        fn check(text: &str, bits: f64) {
            let entropy = unigram_entropy(&Vocabulary::of(text).encode(text));
            assert!((entropy - bits * LN_2).abs() < 1e-12, "{text}: {entropy}");
        }
        check("aaaa", 0.0);
        check("abab", 1.0);
        check("abcdefgh", 3.0);
        check("aabc", 1.5);
    }
}
