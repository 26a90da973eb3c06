//! Labelled images from IDX files: the digits that come with the project, or MNIST's.

use std::fmt;
use std::path::Path;

use backprop::{Error, ErrorKind, Result, idx};

const DIGITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/digits");

/// Images with their labels. Pixels lie between 0 and 1.
pub(crate) struct Images {
    pub pixels: Vec<f32>,
    pub labels: Vec<i32>,
}

/// What to train on and what to test on.
pub(crate) struct Dataset {
    pub train: Images,
    pub test: Images,
    /// Rows and columns of an image.
    pub size: [usize; 2],
    pub classes: usize,
}

impl Images {
    pub(crate) fn len(&self) -> usize {
        self.labels.len()
    }

    fn split_off(&mut self, at: usize) -> Self {
        let count = self.pixels.len() / self.len();
        Self {
            pixels: self.pixels.split_off(at * count),
            labels: self.labels.split_off(at),
        }
    }
}

impl Dataset {
    /// MNIST's files in a folder, or else the project's digits.
    pub(crate) fn load(mnist: Option<&Path>) -> Result<Self> {
        mnist.map_or_else(Self::digits, Self::mnist)
    }

    /// The project's digits: the last fifth, by other writers, is for testing.
    pub(crate) fn digits() -> Result<Self> {
        let (mut train, size) = read(
            Path::new(DIGITS),
            "digits-images-idx3-ubyte",
            "digits-labels-idx1-ubyte",
        )?;
        let test = train.split_off(train.len() - train.len().div_ceil(5));
        Ok(Self::new(train, test, size))
    }

    /// MNIST, or what is stored under its names.
    fn mnist(folder: &Path) -> Result<Self> {
        let (train, size) = read(folder, "train-images-idx3-ubyte", "train-labels-idx1-ubyte")?;
        let (test, test_size) = read(folder, "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")?;
        if test_size != size {
            let what = format!("images of {test_size:?} pixels, those to train on have {size:?}");
            return Err(malformed(&folder.join("t10k-images-idx3-ubyte"), what));
        }
        Ok(Self::new(train, test, size))
    }

    fn new(mut train: Images, mut test: Images, size: [usize; 2]) -> Self {
        let brightest = train.pixels.iter().copied().fold(1.0, f32::max);
        for pixel in train.pixels.iter_mut().chain(&mut test.pixels) {
            *pixel /= brightest;
        }
        let labels = train.labels.iter().chain(&test.labels);
        let classes = labels.max().map_or(0, |&last| last as usize + 1);
        Self {
            train,
            test,
            size,
            classes,
        }
    }

    pub(crate) fn pixels(&self) -> usize {
        self.size[0] * self.size[1]
    }
}

impl fmt::Display for Dataset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (train, test) = (self.train.len(), self.test.len());
        let [rows, columns] = self.size;
        write!(
            f,
            "{train} images of {rows}x{columns} pixels to train on, {test} to test"
        )
    }
}

fn read(folder: &Path, images: &str, labels: &str) -> Result<(Images, [usize; 2])> {
    let (images, labels) = (folder.join(images), folder.join(labels));
    let pixels = idx::read(&images)?;
    let (&[count, rows, columns], Some(bytes)) = (pixels.shape(), pixels.as_u8()) else {
        let what = format!("expected u8[count, rows, columns], found {pixels}");
        return Err(malformed(&images, what));
    };
    let classes = idx::read(&labels)?;
    match (classes.shape(), classes.as_u8()) {
        (&[n], Some(values)) if n == count && n > 0 && rows * columns > 0 => {
            let pixels = bytes.iter().map(|&byte| f32::from(byte)).collect();
            let labels = values.iter().map(|&class| i32::from(class)).collect();
            Ok((Images { pixels, labels }, [rows, columns]))
        }
        _ => {
            let what = format!(
                "expected u8[{count}], a label for each image and at least one, found {classes}"
            );
            Err(malformed(&labels, what))
        }
    }
}

fn malformed(file: &Path, what: String) -> Error {
    Error::new(ErrorKind::Format {
        file: file.display().to_string(),
        what,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Writes four files under MNIST's names, 2 images to train on and 1 to test, and lets `change`
    /// spoil one of them.
    fn mnist(name: &str, change: impl FnOnce(&Path)) -> Result<Dataset> {
        let folder = std::env::temp_dir().join(format!("mnist-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let images = |n: u8| {
            [
                vec![0, 0, 8, 3, 0, 0, 0, n, 0, 0, 0, 1, 0, 0, 0, 2],
                vec![51; 2 * usize::from(n)],
            ]
        };
        let labels = |n: u8| [vec![0, 0, 8, 1, 0, 0, 0, n], vec![n; usize::from(n)]];
        for (file, parts) in [
            ("train-images-idx3", images(2)),
            ("t10k-images-idx3", images(1)),
        ] {
            fs::write(folder.join(format!("{file}-ubyte")), parts.concat()).unwrap();
        }
        for (file, parts) in [
            ("train-labels-idx1", labels(2)),
            ("t10k-labels-idx1", labels(1)),
        ] {
            fs::write(folder.join(format!("{file}-ubyte")), parts.concat()).unwrap();
        }
        change(&folder);
        let data = Dataset::mnist(&folder);
        fs::remove_dir_all(&folder).unwrap();
        data
    }

    #[test]
    fn reads_what_mnist_looks_like() {
        let data = mnist("whole", |_| {}).unwrap();
        assert_eq!((data.size, data.classes, data.pixels()), ([1, 2], 3, 2));
        assert_eq!((data.train.len(), data.test.len()), (2, 1));
        assert_eq!(data.train.pixels, [1.0; 4]);
        assert_eq!(data.test.labels, [1]);
    }

    #[test]
    fn says_which_file_does_not_fit() {
        #[track_caller]
        fn check(name: &str, change: impl FnOnce(&Path), said: &str) {
            let error = mnist(name, change).err().unwrap().to_string();
            assert!(error.contains(said), "{error}");
        }
        let write = |file: &'static str, bytes: &'static [u8]| {
            move |folder: &Path| fs::write(folder.join(file), bytes).unwrap()
        };
        let images = write(
            "t10k-images-idx3-ubyte",
            &[0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 9],
        );
        check(
            "size",
            images,
            "t10k-images-idx3-ubyte: images of [1, 1] pixels, those to train on have [1, 2]",
        );
        let labels = write("train-labels-idx1-ubyte", &[0, 0, 8, 1, 0, 0, 0, 1, 5]);
        check(
            "labels",
            labels,
            "train-labels-idx1-ubyte: expected u8[2], a label for each image",
        );
        let wide = write(
            "train-labels-idx1-ubyte",
            &[0, 0, 0x0b, 1, 0, 0, 0, 1, 5, 5],
        );
        check("type", wide, "found i16[1]");
        let flat = write("train-images-idx3-ubyte", &[0, 0, 8, 1, 0, 0, 0, 1, 5]);
        check(
            "rank",
            flat,
            "train-images-idx3-ubyte: expected u8[count, rows, columns], found u8[1]",
        );
    }

    #[test]
    fn the_last_fifth_of_the_digits_tests() {
        let data = Dataset::digits().unwrap();
        assert_eq!((data.train.len(), data.test.len()), (1437, 360));
        assert_eq!((data.size, data.classes), ([8, 8], 10));
        assert!(
            data.train
                .pixels
                .iter()
                .all(|pixel| (0.0..=1.0).contains(pixel))
        );
    }
}
