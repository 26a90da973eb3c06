//! The command line of `cargo xtask bench`.

use lexopt::prelude::*;

use super::engine::Peer;

pub(super) const USAGE: &str = "\
usage: cargo xtask bench [OPTIONS]

  --only ID,..      these workloads [all but W9-3163, which takes 4 GB]
  --threads N,..    thread counts [1,2]
  --peers NAME,..   engines to compare with, or `none` [all]
  --rounds N        how often everything is run, each time in a fresh process [3]
  --seconds X       of timing in each process [2]
  --quick           one round of half a second
  --against REV     another revision of this engine beside it
";

#[derive(Clone, PartialEq, Debug)]
pub(super) struct Options {
    pub(super) only: Vec<String>,
    pub(super) threads: Vec<usize>,
    pub(super) peers: Vec<Peer>,
    pub(super) rounds: usize,
    pub(super) seconds: f64,
    pub(super) against: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            only: Vec::new(),
            threads: vec![1, 2],
            peers: Peer::ALL.to_vec(),
            rounds: 3,
            seconds: 2.0,
            against: None,
        }
    }
}

#[derive(PartialEq, Debug)]
pub(super) enum Request {
    Help,
    Bench(Options),
}

pub(super) fn read(arguments: &[String]) -> Result<Request, String> {
    parse(arguments).map_err(|why| format!("{why}\n\n{USAGE}"))
}

fn parse(arguments: &[String]) -> Result<Request, lexopt::Error> {
    let mut options = Options::default();
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("only") => options.only = parser.value()?.parse_with(words)?,
            Long("threads") => options.threads = parser.value()?.parse_with(counts)?,
            Long("peers") => options.peers = parser.value()?.parse_with(peers)?,
            Long("rounds") => options.rounds = parser.value()?.parse_with(at_least_one)?,
            Long("seconds") => options.seconds = parser.value()?.parse_with(seconds)?,
            Long("quick") => (options.rounds, options.seconds) = (1, 0.5),
            Long("against") => options.against = Some(parser.value()?.string()?),
            Short('h') | Long("help") => return Ok(Request::Help),
            other => return Err(other.unexpected()),
        }
    }
    Ok(Request::Bench(options))
}

fn words(text: &str) -> Result<Vec<String>, String> {
    let words: Vec<String> = text.split(',').map(|word| word.trim().to_owned()).collect();
    match words.iter().any(String::is_empty) {
        true => Err("an empty name".to_owned()),
        false => Ok(words),
    }
}

fn counts(text: &str) -> Result<Vec<usize>, String> {
    words(text)?.iter().map(|word| at_least_one(word)).collect()
}

fn at_least_one(text: &str) -> Result<usize, String> {
    let known = text.parse().ok().filter(|&count| count > 0);
    known.ok_or_else(|| "a count is a whole number from 1".to_owned())
}

fn seconds(text: &str) -> Result<f64, String> {
    let known = text.parse().ok().filter(|x| (0.01..=3600.0).contains(x));
    known.ok_or_else(|| "seconds are a number from 0.01 to 3600".to_owned())
}

fn peers(text: &str) -> Result<Vec<Peer>, String> {
    if text == "none" {
        return Ok(Vec::new());
    }
    let named = |word: &String| {
        let known = Peer::ALL.iter().find(|peer| peer.name() == word);
        known.copied().ok_or_else(|| {
            let names = Peer::ALL.map(Peer::name).join(", ");
            format!("no peer is called `{word}`, only {names}")
        })
    };
    words(text)?.iter().map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Request, String> {
        let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        read(&arguments)
    }

    #[test]
    fn reads_every_option() {
        let line = "--only W3,W9 --threads 2 --peers torch,jax --quick --against HEAD~1";
        let options = Options {
            only: vec!["W3".to_owned(), "W9".to_owned()],
            threads: vec![2],
            peers: vec![Peer::Torch, Peer::Jax],
            rounds: 1,
            seconds: 0.5,
            against: Some("HEAD~1".to_owned()),
        };
        assert_eq!(parsed(line), Ok(Request::Bench(options)));
        assert_eq!(parsed(""), Ok(Request::Bench(Options::default())));
        assert_eq!(parsed("-h"), Ok(Request::Help));
    }

    #[test]
    fn refuses_what_makes_no_sense() {
        for (line, why) in [
            ("--threads 0", "from 1"),
            ("--only W1,", "an empty name"),
            ("--peers tensorfluss", "no peer is called `tensorfluss`"),
            ("--seconds -1", "from 0.01"),
            ("--fast", "--fast"),
        ] {
            let error = parsed(line).unwrap_err();
            assert!(error.contains(why), "{line}: {error}");
        }
    }
}
