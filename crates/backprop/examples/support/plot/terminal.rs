//! A curve in the terminal: braille characters give every cell two by four dots.

use super::scale::Axis;
use super::{Chart, Curve, Panel, Stroke, spread};

/// Room for the numbers of the vertical axis.
const MARGIN: usize = 7;

pub(crate) fn draw(chart: &Chart, panel: &Panel, [columns, rows]: [usize; 2]) -> String {
    let width = columns.saturating_sub(MARGIN + 2).max(10);
    let height = rows.saturating_sub(3).max(3);
    let (x, y) = (chart.x_axis(), panel.y_axis(is_strong));
    let mut canvas = Canvas::new(width, height);
    for curve in panel.curves.iter().filter(|curve| is_strong(curve)) {
        canvas.draw(curve, &x, &y);
    }
    [
        title(panel),
        body(&canvas, panel, &y),
        foot(&x, chart.x, width),
    ]
    .concat()
}

fn is_strong(curve: &Curve) -> bool {
    curve.stroke == Stroke::Strong
}

fn title(panel: &Panel) -> String {
    format!("{:MARGIN$}  {}\n", "", panel.title)
}

fn body(canvas: &Canvas, panel: &Panel, y: &Axis) -> String {
    let mut labels = vec![String::new(); canvas.height];
    for (value, text) in y.ticks(canvas.height / 2) {
        let up = y.position(value).unwrap_or(0.0);
        labels[place(1.0 - up, canvas.height)] = text + panel.unit;
    }
    let ends = end_labels(canvas, panel, y);
    let lines = labels.iter().zip(canvas.rows()).zip(&ends);
    let lines = lines.map(|((label, row), end)| {
        let mark = if label.is_empty() { '│' } else { '┤' };
        let row = match end.as_str() {
            "" => row.trim_end().to_owned(),
            end => format!("{row} {end}"),
        };
        format!("{label:>MARGIN$} {mark}{row}\n")
    });
    lines.collect()
}

/// The names of the curves in the rows in which they end, if there are several.
fn end_labels(canvas: &Canvas, panel: &Panel, y: &Axis) -> Vec<String> {
    let mut labels = vec![String::new(); canvas.height];
    let strong = panel.curves.iter().filter(|curve| is_strong(curve));
    let mut ends: Vec<(f64, &str)> = strong
        .filter_map(|curve| {
            let mut points = curve.points.iter().rev();
            let up = points.find_map(|&(_, value)| y.position(value))?;
            Some((place(1.0 - up, canvas.height) as f64, curve.label))
        })
        .collect();
    if ends.len() < 2 {
        return labels;
    }
    ends.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut rows: Vec<f64> = ends.iter().map(|&(row, _)| row).collect();
    spread(&mut rows, 1.0, (0.0, (canvas.height - 1) as f64));
    for (row, (_, label)) in rows.into_iter().zip(ends) {
        if let Some(place) = labels.get_mut(row.max(0.0) as usize) {
            *place = label.to_owned();
        }
    }
    labels
}

fn foot(x: &Axis, name: &str, width: usize) -> String {
    let mut line = vec!['─'; width];
    let mut numbers = vec![' '; width + name.len() + 2];
    for (value, text) in x.ticks(6) {
        let at = place(x.position(value).unwrap_or(0.0), width);
        line[at] = '┬';
        let start = at.saturating_sub(text.len() / 2);
        numbers.splice(start..start + text.len(), text.chars());
    }
    let numbers: String = numbers.into_iter().collect();
    let line: String = line.into_iter().collect();
    format!(
        "{:MARGIN$} └{line}\n{:MARGIN$}  {} {name}\n",
        "",
        "",
        numbers.trim_end()
    )
}

/// The cell, of so many, in which a position between 0 and 1 lies.
fn place(position: f64, cells: usize) -> usize {
    (position.clamp(0.0, 1.0) * (cells - 1) as f64).round() as usize
}

/// Dots, two to a cell across and four down.
struct Canvas {
    width: usize,
    height: usize,
    cells: Vec<u8>,
}

impl Canvas {
    fn new(width: usize, height: usize) -> Self {
        Self {
            width,
            height,
            cells: vec![0; width * height],
        }
    }

    fn draw(&mut self, curve: &Curve, x: &Axis, y: &Axis) {
        let dot = |&(px, py): &(f64, f64)| {
            let (right, up) = (x.position(px)?, y.position(py)?);
            Some((
                place(right, 2 * self.width),
                place(1.0 - up, 4 * self.height),
            ))
        };
        let dots: Vec<_> = curve.points.iter().map(dot).collect();
        for dot in dots.iter().flatten() {
            self.set(*dot);
        }
        for pair in dots.windows(2) {
            if let &[Some(from), Some(to)] = pair {
                self.line(from, to);
            }
        }
    }

    fn line(&mut self, from: (usize, usize), to: (usize, usize)) {
        let steps = from.0.abs_diff(to.0).max(from.1.abs_diff(to.1)).max(1);
        let between = |a: usize, b: usize, i: usize| (a * (steps - i) + b * i + steps / 2) / steps;
        for i in 0..=steps {
            self.set((between(from.0, to.0, i), between(from.1, to.1, i)));
        }
    }

    fn set(&mut self, (column, row): (usize, usize)) {
        // The bits of a braille character, left column then right column, from the top.
        const BITS: [[u8; 4]; 2] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];
        self.cells[row / 4 * self.width + column / 2] |= BITS[column % 2][row % 4];
    }

    fn rows(&self) -> impl Iterator<Item = String> {
        let character = |&bits: &u8| match bits {
            0 => ' ',
            bits => char::from_u32(0x2800 + u32::from(bits)).unwrap_or(' '),
        };
        self.cells
            .chunks(self.width)
            .map(move |row| row.iter().map(character).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Scale;
    use super::*;

    fn chart(points: Vec<(f64, f64)>) -> Chart {
        let curve = Curve {
            label: "",
            stroke: Stroke::Strong,
            points,
        };
        let panel = Panel {
            title: "loss",
            scale: Scale::Linear,
            unit: "",
            curves: vec![curve],
        };
        Chart {
            x: "epoch",
            x_scale: Scale::Linear,
            panels: vec![panel],
        }
    }

    #[test]
    fn draws_a_line() {
        let drawn = chart(vec![(0.0, 4.0), (8.0, 0.0)]).terminal(25, 7);
        let expected = "         loss
      4 ┤⠉⠒⠤⣀
        │    ⠉⠒⠤⣀
      2 ┤        ⠉⠒⠤⣀
      0 ┤            ⠉⠒⠤⣀
        └┬───┬───┬──┬───┬
         0   2   4  6   8 epoch
";
        assert_eq!(drawn, expected, "\n{drawn}");
    }

    #[test]
    fn draws_what_there_is() {
        for points in [vec![], vec![(1.0, 1.0)], vec![(0.0, f64::NAN), (1.0, 2.0)]] {
            let drawn = chart(points).terminal(72, 14);
            assert_eq!(drawn.lines().count(), 14, "{drawn}");
        }
    }

    #[test]
    fn names_several_curves_where_they_end() {
        let mut chart = chart(vec![(1.0, 4.0), (100.0, 1.0)]);
        chart.x_scale = Scale::Log;
        let panel = &mut chart.panels[0];
        for (label, end) in [("low", 1.0), ("high", 4.0)] {
            panel.curves.push(Curve {
                label,
                stroke: Stroke::Strong,
                points: vec![(1.0, 4.0), (100.0, end)],
            });
        }
        panel.curves.remove(0);
        let drawn = chart.terminal(24, 6);
        let expected = "         loss
        │⠉⠛⠭⢍⣉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉ high
        │     ⠉⠒⠢⠤⣀
        │          ⠉⠑⠒⠤⣀ low
        └┬──┬───┬──┬───┬
         1  3  10 30  100 epoch
";
        assert_eq!(drawn, expected, "\n{drawn}");
        assert_eq!(chart.terminal_panels(24, 6), drawn);
    }
}
