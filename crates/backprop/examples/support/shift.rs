//! Images that are moved a little, so that a network learns digits and not places.

/// Moves an image by at most one pixel down or up, and right or left. What comes in is dark.
pub(crate) fn shift(
    pixels: &mut [f32],
    [rows, columns]: [usize; 2],
    mut random: impl FnMut() -> u64,
) {
    let before = pixels.to_vec();
    let [down, right] = [random(), random()].map(|number| (number % 3) as isize - 1);
    let from = |at: usize, shift: isize, size: usize| {
        at.checked_add_signed(-shift).filter(|&at| at < size)
    };
    for row in 0..rows {
        for column in 0..columns {
            let seen = from(row, down, rows).zip(from(column, right, columns));
            pixels[row * columns + column] = seen.map_or(0.0, |(r, c)| before[r * columns + c]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_moves_by_a_pixel_and_leaves_the_rest_dark() {
        let image = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let moved = |numbers: [u64; 2]| {
            let mut pixels = image;
            let mut numbers = numbers.into_iter();
            shift(&mut pixels, [2, 3], || numbers.next().unwrap());
            pixels
        };
        assert_eq!(moved([1, 1]), image);
        assert_eq!(moved([2, 1]), [0.0, 0.0, 0.0, 1.0, 2.0, 3.0]);
        assert_eq!(moved([1, 0]), [2.0, 3.0, 0.0, 5.0, 6.0, 0.0]);
        assert_eq!(moved([0, 2]), [0.0, 4.0, 5.0, 0.0, 0.0, 0.0]);
    }
}
