//! Readers of files: whatever the bytes are, an error says that the file is at fault and nothing
//! has changed; or the file holds, and says the same when it is written again.

use backprop::prelude::*;
use backprop::{Checkpoint, ErrorKind, Reference, idx};
use backprop_testkit::fuzz::Target;

fn is_format(error: &Error) -> Result<String, String> {
    let all = error.all().map(Error::kind);
    let mut outcome = Vec::new();
    for kind in all {
        let ErrorKind::Format { what, .. } = kind else {
            return Err(format!("not a fault of the file: {error}"));
        };
        // Numbers and names differ from file to file.
        let words = what.split_whitespace().take(4);
        let words = words.filter(|word| !word.contains(|c: char| c.is_ascii_digit()));
        outcome.extend(words.map(str::to_owned));
    }
    outcome.truncate(8);
    Ok(outcome.join(" "))
}

/// Parameters of several types.
fn session(seed: u64) -> Result<Session<Reference>> {
    let g = Graph::with_seed(seed);
    let uniform = || Init::Uniform {
        low: 0.0,
        high: 1.9,
    };
    let all = [
        g.parameter("w", [2, 3], F32, uniform()),
        g.parameter("half", [3], F16, uniform()),
        g.parameter("mask", [2], Bool, uniform()),
        g.parameter("count", [], I64, uniform()),
    ];
    let keys = all.map(|parameter| g.read(parameter).key());
    Session::compile(&g, Reference, &keys, Updates::none())
}

fn values(session: &Session<Reference>) -> Result<State> {
    let all = session.parameters();
    let bytes = all
        .iter()
        .map(|info| session.parameter_bytes(info.parameter));
    bytes.collect()
}

/// Files that hold, and some that do not.
fn weight_files() -> Result<Vec<Vec<u8>>> {
    let whole = Checkpoint::of(&session(1)?)?.with("epoch", 3).to_bytes()?;
    let header =
        r#"{"__metadata__":{"a":"b"},"mask":{"dtype":"BOOL","shape":[2],"data_offsets":[0,2]}}"#;
    let length = (header.len() as u64).to_le_bytes();
    let partial = [&length[..], header.as_bytes(), &[1, 0]].concat();
    Ok(vec![whole.clone(), whole[..40].to_vec(), partial])
}

/// The bytes of all parameters.
type State = Vec<Vec<u8>>;

/// Values that were loaded, and that come back from what is written then; or an error, and whether
/// nothing changed.
fn load(input: &[u8]) -> Result<Result<[State; 2], (Error, bool)>> {
    let mut session = session(2)?;
    let before = values(&session)?;
    let read = Checkpoint::from_bytes(input).and_then(|read| read.restore(&mut session));
    if let Err(error) = read {
        return Ok(Err((error, values(&session)? == before)));
    }
    let after = values(&session)?;
    let written = Checkpoint::of(&session)?.to_bytes()?;
    Checkpoint::from_bytes(written)?.restore(&mut session)?;
    Ok(Ok([after, values(&session)?]))
}

pub(crate) fn with_weights(tried: &mut dyn FnMut(&Target<'_>)) {
    let files = weight_files().map_err(|error| error.to_string());
    let run = |input: &[u8]| {
        files.clone()?;
        match load(input).map_err(|error| error.to_string())? {
            Err((error, true)) => is_format(&error),
            Err((error, false)) => Err(format!("parameters have changed: {error}")),
            Ok([read, written]) if read == written => Ok("loaded".to_owned()),
            Ok(_) => Err("what is written is not what was read".to_owned()),
        }
    };
    tried(&Target {
        name: "weights",
        corpus: files.clone().unwrap_or_default(),
        run: &run,
    });
}

pub(crate) fn with_idx(tried: &mut dyn FnMut(&Target<'_>)) {
    let run = |input: &[u8]| match idx::parse(input) {
        Err(error) => is_format(&error),
        Ok(idx) => {
            let elements: usize = idx.shape().iter().product();
            let header = 4 + 4 * idx.shape().len();
            let width = usize::from(elements > 0) * (input.len() - header) / elements.max(1);
            let adds_up = header + elements * width == input.len();
            let is_bytes = idx.as_u8().is_some_and(|bytes| *bytes == input[header..]);
            match adds_up && (is_bytes || idx.as_u8().is_none()) {
                true => Ok(format!("{} of rank {}", width, idx.shape().len())),
                false => Err(format!("{idx} of {} bytes", input.len())),
            }
        }
    };
    let corpus: [&[u8]; 6] = [
        &[0, 0, 8, 1, 0, 0, 0, 3, 7, 2, 1],
        &[0, 0, 0x0b, 2, 0, 0, 0, 1, 0, 0, 0, 2, 1, 2, 3, 4],
        &[0, 0, 0x0e, 1, 0, 0, 0, 1, 0xc0, 4, 0, 0, 0, 0, 0, 0],
        &[
            0, 0, 0x0d, 3, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255,
        ],
        &[0x1f, 0x8b, 8, 0],
        // Sizes whose product is no number but for an empty axis.
        &[
            0, 0, 8, 4, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0,
        ],
    ];
    tried(&Target {
        name: "idx",
        corpus: corpus.map(<[u8]>::to_vec).to_vec(),
        run: &run,
    });
}
