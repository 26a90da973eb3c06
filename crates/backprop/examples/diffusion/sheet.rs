//! Contact sheets: many small images on one, as PNG.

use std::error::Error;
use std::fs;
use std::path::Path;

/// Dots of the sheet across a dot of an image.
const SCALE: usize = 5;
/// Dots between images, and around them.
const GAP: usize = 5;
const BACKGROUND: u8 = 64;

/// Images in rows, grey between black and white.
pub(crate) struct Sheet {
    width: usize,
    height: usize,
    grey: Vec<u8>,
}

impl Sheet {
    /// Puts images of `size`, whose pixels lie between 0 and 1, side by side in `columns`. Values
    /// outside are as black or as white as can be.
    pub(crate) fn new(pixels: &[f32], size: [usize; 2], columns: usize) -> Self {
        let count = size[0] * size[1];
        let rows = (pixels.len() / count).div_ceil(columns);
        let [height, width] = [(rows, size[0]), (columns, size[1])]
            .map(|(images, size)| images * (size * SCALE + GAP) + GAP);
        let mut sheet = Self {
            width,
            height,
            grey: vec![BACKGROUND; width * height],
        };
        for (i, image) in pixels.chunks_exact(count).enumerate() {
            let corner = [i / columns, i % columns];
            let corner = [0, 1].map(|axis| GAP + corner[axis] * (size[axis] * SCALE + GAP));
            sheet.put(image, size, corner);
        }
        sheet
    }

    fn put(&mut self, image: &[f32], size: [usize; 2], corner: [usize; 2]) {
        for row in 0..size[0] * SCALE {
            let from = &image[row / SCALE * size[1]..][..size[1]];
            let at = (corner[0] + row) * self.width + corner[1];
            let to = &mut self.grey[at..][..size[1] * SCALE];
            for (dots, pixel) in to.chunks_exact_mut(SCALE).zip(from) {
                // A conversion to an integer keeps to its range.
                dots.fill((pixel * 255.0).round() as u8);
            }
        }
    }

    /// The sheet as a PNG file.
    pub(crate) fn write(&self, file: &Path) -> Result<(), Box<dyn Error>> {
        fs::write(file, self.png()?)?;
        Ok(())
    }

    fn png(&self) -> Result<Vec<u8>, Box<dyn Error>> {
        let [width, height] = [u32::try_from(self.width)?, u32::try_from(self.height)?];
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width, height);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&self.grey)?;
        writer.finish()?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn a_sheet_comes_back_dot_by_dot() {
        // Three images of one row and two columns, on two rows of the sheet.
        let pixels = [0.0, 1.0, 0.5, -3.0, 7.0, f32::NAN];
        let png = Sheet::new(&pixels, [1, 2], 2).png().unwrap();

        let mut reader = png::Decoder::new(Cursor::new(png)).read_info().unwrap();
        let mut grey = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut grey).unwrap();
        let (width, height) = (2 * (2 * SCALE + GAP) + GAP, 2 * (SCALE + GAP) + GAP);
        assert_eq!((info.width as usize, info.height as usize), (width, height));
        assert_eq!(
            (info.color_type, info.bit_depth),
            (png::ColorType::Grayscale, png::BitDepth::Eight)
        );
        let expected = |row: usize, column: usize| {
            let (y, x) = (row.checked_sub(GAP)?, column.checked_sub(GAP)?);
            let (image_row, y) = (y / (SCALE + GAP), y % (SCALE + GAP));
            let (image_column, x) = (x / (2 * SCALE + GAP), x % (2 * SCALE + GAP));
            let dots = [[[0, 255], [128, 0]], [[255, 0], [BACKGROUND; 2]]];
            (y < SCALE && x < 2 * SCALE).then(|| dots[image_row][image_column][x / SCALE])
        };
        for row in 0..height {
            for column in 0..width {
                let expected = expected(row, column).unwrap_or(BACKGROUND);
                assert_eq!(grey[row * width + column], expected, "{row}, {column}");
            }
        }
    }
}
