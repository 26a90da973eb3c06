use std::fs;
use std::path::{Path, PathBuf};

use backprop_core::Reference;
use backprop_graph::{Graph, Init, Updates};

use super::*;

/// A session with the parameters of these names, types and shapes, drawn from a seed, and its
/// values as bytes.
fn session(seed: u64, parameters: &[(&str, DType, &[usize])]) -> Session<Reference> {
    let g = Graph::with_seed(seed);
    let mut fetched = Vec::new();
    for &(name, dtype, shape) in parameters {
        let init = Init::Uniform {
            low: 0.0,
            high: 1.9,
        };
        fetched.push(g.read(g.parameter(name, shape, dtype, init)).key());
    }
    Session::compile(&g, Reference, &fetched, Updates::none()).unwrap()
}

fn values(session: &Session<Reference>) -> Vec<Vec<u8>> {
    let parameters = session.parameters();
    parameters
        .iter()
        .map(|info| session.parameter_bytes(info.parameter).unwrap())
        .collect()
}

/// A folder of its own for a test, with a name for the file in it.
fn scratch(test: &str) -> PathBuf {
    let folder =
        std::env::temp_dir().join(format!("backprop-checkpoint-{test}-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    folder.join("model.safetensors")
}

fn clear(file: &Path) {
    fs::remove_dir_all(file.parent().unwrap()).unwrap();
}

fn names_beside(file: &Path) -> Vec<String> {
    let entries = fs::read_dir(file.parent().unwrap()).unwrap();
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
    let mut names: Vec<String> = entries
        .map(|entry| name(entry).into_string().unwrap())
        .collect();
    names.sort();
    names
}

const MIXED: [(&str, DType, &[usize]); 5] = [
    ("block.weight", DType::F32, &[2, 3]),
    ("block.half", DType::F16, &[5]),
    ("mean", DType::F64, &[]),
    ("count", DType::I64, &[1, 2]),
    ("mask \"\u{e9}\"\n", DType::Bool, &[3]),
];

#[test]
fn every_type_and_rank_comes_back() {
    let file = scratch("types");
    let (saved, mut loaded) = (session(1, &MIXED), session(2, &MIXED));
    assert_ne!(values(&saved), values(&loaded));
    saved.save(&file).unwrap();
    loaded.load(&file).unwrap();
    assert_eq!(values(&saved), values(&loaded));
    assert_eq!(names_beside(&file), ["model.safetensors"]);
    clear(&file);
}

/// What another implementation of the format makes of it.
#[test]
fn others_read_what_is_written() {
    let saved = session(1, &MIXED);
    let made = Checkpoint::of(&saved).unwrap().with("epoch", 3);
    let bytes = made.to_bytes().unwrap();
    let start = bytes.as_ptr() as usize;
    let read = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(read.len(), MIXED.len());
    for (info, bytes) in saved.parameters().iter().zip(values(&saved)) {
        let view = read.tensor(&info.name).unwrap();
        assert_eq!(Some(view.dtype()), stored_type(info.dtype));
        assert_eq!(
            (view.shape(), view.data()),
            (info.shape.sizes(), &bytes[..])
        );
        let offset = view.data().as_ptr() as usize - start;
        assert!(offset.is_multiple_of(info.dtype.size()), "{offset}");
    }
    let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let notes = metadata.metadata().as_ref().unwrap();
    assert_eq!(notes.get("epoch").map(String::as_str), Some("3"));
}

#[test]
fn notes_come_back_and_the_bytes_are_always_the_same() {
    let made = || {
        let made = Checkpoint::of(&session(1, &MIXED)).unwrap();
        let made = made.with("rate", 0.1f64).with("by", "\u{e9} \" \n\\");
        made.with("epoch", 2).with("epoch", 3)
    };
    let bytes = made().to_bytes().unwrap();
    assert_eq!(made().to_bytes().unwrap(), bytes);
    let read = Checkpoint::from_bytes(bytes.clone()).unwrap();
    let names: Vec<&str> = read.notes().map(|(name, _)| name).collect();
    assert_eq!(names, ["by", "epoch", "rate"]);
    assert_eq!(read.get::<f64>("rate").unwrap(), 0.1);
    assert_eq!(read.get::<String>("by").unwrap(), "\u{e9} \" \n\\");
    assert_eq!(read.get::<u8>("epoch").unwrap(), 3);
    // What was read is written as it was.
    assert_eq!(read.to_bytes().unwrap(), bytes);

    let error = read.get::<u8>("step").unwrap_err().to_string();
    assert_eq!(error, "error: checkpoint: it has no note `step`");
    let error = read.get::<u8>("rate").unwrap_err().to_string();
    assert_eq!(
        error,
        "error: checkpoint: the note `rate` is `0.1`: invalid digit found in string"
    );
    let error = made().with("backprop.x", 1).to_bytes().unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::Attribute { .. }),
        "{error}"
    );
    let own = session(1, &[("__metadata__", DType::F32, &[])]);
    assert!(Checkpoint::of(&own).unwrap().to_bytes().is_err());
}

#[test]
fn some_parameters_come_back_and_the_others_stay() {
    let file = scratch("some");
    let (saved, mut loaded) = (session(1, &MIXED), session(2, &MIXED));
    let before = values(&loaded);
    let some = |session: &Session<Reference>| {
        let all = session.parameters();
        [3, 0].map(|index| all[index].parameter)
    };
    saved.save_only(&some(&saved), &file).unwrap();
    let error = loaded.load(&file).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("parameter `mean` f64[] is missing")
    );
    let line = line!() + 1;
    let foreign = loaded.load_only(&some(&saved), &file).unwrap_err();
    assert!(
        matches!(foreign.kind(), ErrorKind::MixedGraphs { .. }),
        "{foreign}"
    );
    assert_eq!(foreign.place().unwrap().line(), line);
    assert_eq!(values(&loaded), before);
    let chosen = some(&loaded);
    loaded.load_only(&chosen, &file).unwrap();
    let (after, wanted) = (values(&loaded), values(&saved));
    for i in 0..MIXED.len() {
        let expected = if i == 0 || i == 3 { &wanted } else { &before };
        assert_eq!(after[i], expected[i]);
    }
    clear(&file);
}

#[test]
fn a_truncated_file_changes_nothing() {
    let file = scratch("truncated");
    let whole = Checkpoint::of(&session(1, &MIXED)).unwrap();
    let whole = whole.to_bytes().unwrap();
    let mut session = session(2, &MIXED);
    let before = values(&session);
    for length in 0..whole.len() {
        let error = Checkpoint::from_bytes(&whole[..length]).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Format { .. }), "{error}");
    }
    fs::write(&file, &whole[..whole.len() - 1]).unwrap();
    let error = session.load(&file).unwrap_err();
    assert!(error.to_string().contains("model.safetensors: "), "{error}");
    assert_eq!(values(&session), before);
    clear(&file);
}

/// Of a whole file, whatever it says: names, types, shapes, notes, checksums, padding and values.
#[test]
fn a_file_with_any_bit_flipped_is_refused() {
    let made = Checkpoint::of(&session(1, &MIXED)).unwrap();
    let mut bytes = made.with("epoch", 3).to_bytes().unwrap();
    let mut session = session(2, &MIXED);
    let before = values(&session);
    for bit in 0..8 * bytes.len() {
        bytes[bit / 8] ^= 1 << (bit % 8);
        let loaded = Checkpoint::from_bytes(bytes.clone()).and_then(|c| c.restore(&mut session));
        let error = loaded.expect_err(&format!(
            "bit {bit} of {:?}",
            String::from_utf8_lossy(&bytes)
        ));
        assert!(matches!(error.kind(), ErrorKind::Format { .. }), "{error}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    assert_eq!(values(&session), before);
    Checkpoint::from_bytes(bytes)
        .unwrap()
        .restore(&mut session)
        .unwrap();
}

#[test]
fn what_is_damaged_is_named() {
    let made = Checkpoint::of(&session(1, &MIXED)).unwrap();
    let bytes = made.with("epoch", 3).to_bytes().unwrap();
    let said = |from: &str, to: &str| {
        let (from, to) = (from.as_bytes(), to.as_bytes());
        let at = bytes.windows(from.len()).position(|part| part == from);
        let mut bytes = bytes.clone();
        bytes[at.unwrap()..][..to.len()].copy_from_slice(to);
        Checkpoint::from_bytes(bytes).unwrap_err().to_string()
    };
    let error = said("\"epoch\":\"3\"", "\"epoch\":\"4\"");
    assert!(error.starts_with("error: checkpoint: the notes are damaged: the checksum is "));
    let error = said("[2,3]", "[3,2]");
    assert!(
        error.contains("`block.weight` f32[3, 2] is damaged"),
        "{error}"
    );
    let error = said("\"backprop.format\":\"1\"", "\"backprop.format\":\"2\"");
    assert_eq!(
        error,
        "error: checkpoint: a checkpoint of format 2; this version reads 1\n   \
         = help: read it with the version that wrote it, or a later one"
    );
    let error = said("backprop.format", "backprop.f_rmat");
    assert!(error.contains("the header is damaged"), "{error}");
    // The last value, and the one in front of it, on end: both are named.
    let mut both = bytes.clone();
    let last = both.len() - 1;
    both[last] ^= 1;
    both[last - 4] ^= 1;
    let error = Checkpoint::from_bytes(both).unwrap_err();
    assert_eq!(error.all().count(), 2, "{error}");
}

#[test]
fn a_file_that_does_not_fit_changes_nothing() {
    #[track_caller]
    fn check(name: &str, stored: &[(&str, DType, &[usize])], said: &[&str]) {
        let file = scratch(name);
        session(1, stored).save(&file).unwrap();
        let mut session = session(2, &[("w", DType::F32, &[2, 3]), ("b", DType::F32, &[3])]);
        let before = values(&session);
        let error = session.load(&file).unwrap_err();
        let lines: Vec<String> = said
            .iter()
            .map(|what| format!("error: {}: {what}", file.display()))
            .collect();
        assert_eq!(error.to_string(), lines.join("\n"));
        assert_eq!(values(&session), before);
        clear(&file);
    }
    let (w, b) = (("w", DType::F32, &[2, 3][..]), ("b", DType::F32, &[3][..]));
    check("missing", &[w], &["parameter `b` f32[3] is missing"]);
    check(
        "unknown",
        &[w, b, ("c", DType::F32, &[1])],
        &["`c` is none of the parameters to load"],
    );
    check(
        "shape",
        &[("w", DType::F32, &[3, 2]), b],
        &["parameter `w` f32[2, 3] is f32[3, 2] in the file"],
    );
    check(
        "type",
        &[("w", DType::F64, &[2, 3]), b],
        &["parameter `w` f32[2, 3] is f64[2, 3] in the file"],
    );
    check(
        "all",
        &[("v", DType::F32, &[2, 3]), ("b", DType::F16, &[3])],
        &[
            "parameter `w` f32[2, 3] is missing",
            "parameter `b` f32[3] is f16[3] in the file",
            "`v` is none of the parameters to load",
        ],
    );
}

/// Files from elsewhere have no checksums, and need none; what they say has to make sense.
#[test]
fn a_malformed_file_changes_nothing() {
    let mut session = session(2, &[("m", DType::Bool, &[2])]);
    let file = |header: &str, data: &[u8]| {
        let length = (header.len() as u64).to_le_bytes();
        [&length[..], header.as_bytes(), data].concat()
    };
    let before = values(&session);
    let mut check = |header: &str, data: &[u8]| {
        let read = Checkpoint::from_bytes(file(header, data));
        let error = read.and_then(|c| c.restore(&mut session)).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Format { .. }), "{error}");
        assert_eq!(values(&session), before, "{header}");
    };
    let whole = r#"{"m":{"dtype":"BOOL","shape":[2],"data_offsets":[0,2]}}"#;
    check(whole, &[0, 2]);
    check(whole, &[0, 1, 1]);
    check(&whole.replace("[2],", "[3],"), &[0, 1]);
    check(&whole.replace("BOOL", "C3"), &[0, 1]);
    check(&whole.replace("BOOL", "I8"), &[0, 1]);
    check(&whole.replace("[0,2]", "[0,4611686018427387904]"), &[0, 1]);
    check(&whole.replace("[2],", "[4294967296,4294967296],"), &[0, 1]);
    check("not json", &[]);
    check("", &[]);
    let noted = |notes: &str| whole.replacen('{', &format!("{{\"__metadata__\":{notes},"), 1);
    check(&noted(r#"{"backprop.format":"1"}"#), &[0, 1]);
    check(&noted(r#"{"backprop.checksums":"0 0"}"#), &[0, 1]);
    check(
        &noted(r#"{"backprop.format":"1","backprop.checksums":""}"#),
        &[0, 1],
    );
    check(&noted(r#"{"backprop.x":"1"}"#), &[0, 1]);
    check(&noted(r#"{"format":1}"#), &[0, 1]);
    let read = Checkpoint::from_bytes(file(&noted(r#"{"format":"pt"}"#), &[0, 1])).unwrap();
    assert_eq!(read.get::<String>("format").unwrap(), "pt");
    read.restore(&mut session).unwrap();
    assert_eq!(values(&session), [[0, 1]]);
}

#[test]
fn a_failed_save_keeps_what_was_there() {
    let file = scratch("kept");
    let session = session(1, &MIXED);
    let nowhere = file.with_file_name("none").join("model");
    let error = session.save(&nowhere).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Io { .. }), "{error}");
    // A folder cannot be replaced by a file: writing goes well, renaming does not.
    fs::create_dir_all(file.join("inner")).unwrap();
    let error = session.save(&file).unwrap_err();
    assert!(error.to_string().contains("cannot be written"), "{error}");
    assert!(file.join("inner").exists());
    assert_eq!(names_beside(&file).len(), 1);
    clear(&file);
}

/// A process that is killed while it writes leaves the beginning of a file under another name.
#[test]
fn a_save_that_was_cut_off_at_any_byte_leaves_the_old_file_and_is_cleared_away() {
    let file = scratch("cut");
    let (old, new) = (session(1, &MIXED), session(3, &MIXED));
    old.save(&file).unwrap();
    let written = fs::read(&file).unwrap();
    let whole = Checkpoint::of(&new).unwrap().to_bytes().unwrap();
    let partial = file.with_file_name("model.safetensors.4294967295.0.partial");
    let mut loaded = session(2, &MIXED);
    for length in 0..=whole.len() {
        fs::write(&partial, &whole[..length]).unwrap();
        loaded.load(&file).unwrap();
        assert_eq!(values(&loaded), values(&old));
        assert_eq!(fs::read(&file).unwrap(), written);
    }
    // Names of others stay, and files that a writer has just begun.
    for kept in [
        "model.safetensors.x.partial",
        "model.safetensors2.1.0.partial",
    ] {
        fs::write(file.with_file_name(kept), "kept").unwrap();
    }
    fs::write(file.with_file_name("model.safetensors.1.0.partial"), "").unwrap();
    new.save(&file).unwrap();
    loaded.load(&file).unwrap();
    assert_eq!(values(&loaded), values(&new));
    let expected = [
        "model.safetensors",
        "model.safetensors.1.0.partial",
        "model.safetensors.x.partial",
        "model.safetensors2.1.0.partial",
    ];
    assert_eq!(names_beside(&file), expected);
    clear(&file);
}

/// Writers of one file do not know of each other; it is always that of one of them.
#[test]
fn a_file_that_many_write_is_always_whole() {
    let file = scratch("many");
    let large: [(&str, DType, &[usize]); 1] = [("w", DType::F32, &[300, 100])];
    session(0, &large).save(&file).unwrap();
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let (file, large) = (&file, &large);
            scope.spawn(move || {
                let saved = session(seed, large);
                for _ in 0..10 {
                    saved.save(file).unwrap();
                    session(9, large).load(file).unwrap();
                }
            });
        }
    });
    assert_eq!(names_beside(&file), ["model.safetensors"]);
    clear(&file);
}

#[test]
fn a_missing_file_is_named() {
    let error = session(1, &MIXED).load("nowhere/at.all").unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("error: nowhere/at.all: cannot be read: "),
        "{error}"
    );
}
