//! The file of values that all engines read, in the safetensors format: the length of a header in 8
//! bytes, the header in JSON, and the bytes of one tensor after the other. Reading and writing keep
//! one tensor in memory at a time, so that the largest workload does not need its memory twice.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use backprop::{DType, Error, ErrorKind, Result};
use serde_json::{Map, Value, json};

use super::{SEED, Slot, Values, Workload};

/// A file that is open for reading.
#[derive(Debug)]
pub struct Reader {
    name: String,
    file: BufReader<File>,
    /// Where each tensor begins, and how many bytes it has.
    tensors: HashMap<String, (u64, usize)>,
}

/// Draws the values of a workload from [`SEED`] and writes them.
///
/// # Errors
/// Whatever building the graph or writing the file reports.
pub fn write(workload: &Workload, path: &Path) -> Result<()> {
    let slots = workload.slots()?;
    let written = || -> std::io::Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let partial = path.with_extension("partial");
        let mut out = BufWriter::new(File::create(&partial)?);
        let header = header(&slots);
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(header.as_bytes())?;
        for slot in &slots {
            out.write_all(&bytes(slot.fill.draw(SEED, &slot.name, slot.shape)))?;
        }
        out.into_inner()?.sync_all()?;
        fs::rename(partial, path)
    };
    written().map_err(|why| broken(path, &format!("cannot be written: {why}")))
}

fn header(slots: &[Slot]) -> String {
    let mut end = 0;
    let mut entries = Map::new();
    for slot in slots {
        let start = end;
        end += slot.shape.count() * slot.fill.dtype().size();
        let dtype = slot.fill.dtype().to_string().to_uppercase();
        let entry = json!({
            "dtype": dtype, "shape": slot.shape.sizes(), "data_offsets": [start, end],
        });
        entries.insert(slot.name.clone(), entry);
    }
    let mut header = Value::Object(entries).to_string();
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    header
}

/// In little-endian order.
fn bytes(values: Values) -> Vec<u8> {
    match values {
        Values::F32(values) => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Values::I32(values) => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
    }
}

impl Reader {
    /// Opens a file and reads what is in it, but no values.
    ///
    /// # Errors
    /// A file that cannot be read or has no such header.
    pub fn open(path: &Path) -> Result<Reader> {
        let unreadable = |why: std::io::Error| broken(path, &format!("cannot be read: {why}"));
        let mut file = BufReader::new(File::open(path).map_err(unreadable)?);
        let mut length = [0; 8];
        file.read_exact(&mut length).map_err(unreadable)?;
        let length = u64::from_le_bytes(length);
        let mut header = String::new();
        let mut part = (&mut file).take(length);
        part.read_to_string(&mut header).map_err(unreadable)?;
        let header: Map<String, Value> = serde_json::from_str(&header)
            .map_err(|why| broken(path, &format!("has no header: {why}")))?;
        let place = |(name, entry): (String, Value)| {
            let offset = |i: usize| entry["data_offsets"][i].as_u64();
            let (start, end) = (offset(0)?, offset(1)?);
            let size = end.checked_sub(start)?;
            Some((name, (8 + length + start, size as usize)))
        };
        Ok(Reader {
            name: path.display().to_string(),
            tensors: header.into_iter().filter_map(place).collect(),
            file,
        })
    }

    /// The values of a tensor.
    ///
    /// # Errors
    /// A tensor that is missing or of another size; a file that ends early.
    pub fn values(&mut self, slot: &Slot) -> Result<Values> {
        let count = slot.shape.count();
        let wanted = count * slot.fill.dtype().size();
        let path = self.name.clone();
        let broken = |what: &str| broken(Path::new(&path), &format!("`{}` {what}", slot.name));
        let Some(&(start, size)) = self.tensors.get(&slot.name) else {
            return Err(broken("is missing"));
        };
        if size != wanted {
            return Err(broken(&format!("has {size} bytes instead of {wanted}")));
        }
        let mut read = |bytes: &mut [u8]| {
            self.file.seek(SeekFrom::Start(start))?;
            self.file.read_exact(bytes)
        };
        if slot.fill.dtype() == DType::I32 {
            let mut values = vec![0_i32; count];
            read(bytemuck::cast_slice_mut(&mut values)).map_err(|_| broken("is cut off"))?;
            values.iter_mut().for_each(|x| *x = i32::from_le(*x));
            return Ok(Values::I32(values));
        }
        let mut values = vec![0_f32; count];
        read(bytemuck::cast_slice_mut(&mut values)).map_err(|_| broken("is cut off"))?;
        let ordered = |x: &mut f32| *x = f32::from_bits(u32::from_le(x.to_bits()));
        values.iter_mut().for_each(ordered);
        Ok(Values::F32(values))
    }
}

fn broken(path: &Path, what: &str) -> Error {
    Error::new(ErrorKind::Format {
        file: path.display().to_string(),
        what: what.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let folder = std::env::temp_dir().join(format!("backprop-values-{}", std::process::id()));
        let path = folder.join("W1.safetensors");
        let workload = Workload::named("W1").unwrap();
        write(workload, &path).unwrap();
        let mut reader = Reader::open(&path).unwrap();
        for slot in workload.slots().unwrap() {
            let drawn = slot.fill.draw(SEED, &slot.name, slot.shape);
            assert_eq!(reader.values(&slot).unwrap(), drawn, "{}", slot.name);
        }
        let other = Workload::named("W2").unwrap().slots().unwrap();
        let error = reader.values(&other[0]).unwrap_err().to_string();
        assert!(error.contains(&other[0].name), "{error}");
        fs::remove_dir_all(folder).unwrap();
        assert!(Reader::open(&path).is_err());
    }
}
