//! Curves over the size of the group, as SVG: both axes logarithmic, each point with its confidence interval.

use std::fmt::Write as _;

use super::text::{escape, number, round};

/// A curve.
pub(super) struct Curve {
    /// Chooses color and dashes; the same for the same thing in all plots of a report.
    pub(super) style: usize,
    pub(super) points: Vec<Point>,
}

/// A value at a size. Values are greater than 0.
pub(super) struct Point {
    pub(super) size: u32,
    pub(super) value: f64,
    pub(super) low: f64,
    pub(super) high: f64,
    /// Whether all samples were taken.
    pub(super) is_whole: bool,
    /// What is said when a pointer rests on it.
    pub(super) note: String,
}

/// The curves as an `<svg>`; empty if there is no point. `label` says what a value on the vertical axis is.
pub(super) fn svg(title: &str, curves: &[Curve], label: fn(f64) -> String) -> String {
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let sizes = Axis::over(points().map(|point| f64::from(point.size)), LEFT, WIDTH - RIGHT);
    let values = Axis::over(points().flat_map(|point| [point.low, point.high]), HEIGHT - BOTTOM, TOP);
    let (Some(sizes), Some(values)) = (sizes, values) else {
        return String::new();
    };
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\"><g class=\"grid\">",
        escape(title)
    );
    for tick in values.ticks() {
        let y = values.place(tick);
        let _ = write!(
            svg,
            "<path d=\"M{LEFT} {y:.1}H{}\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 8.0,
            y + 4.0,
            escape(&round(&label(tick)))
        );
    }
    for tick in sizes.ticks() {
        let x = sizes.place(tick);
        let _ = write!(
            svg,
            "<path d=\"M{x:.1} {TOP}V{:.1}\"/><text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            HEIGHT - BOTTOM,
            HEIGHT - BOTTOM + 18.0,
            number(tick)
        );
    }
    let _ = write!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">members</text></g>",
        f64::midpoint(LEFT, WIDTH - RIGHT),
        HEIGHT - 6.0
    );
    for curve in curves {
        draw(&mut svg, curve, &sizes, &values);
    }
    svg.push_str("</svg>");
    svg
}

fn draw(svg: &mut String, curve: &Curve, sizes: &Axis, values: &Axis) {
    let _ = write!(
        svg,
        "<g class=\"curve s{}\"><path class=\"line\" d=\"",
        curve.style % STYLES
    );
    for (index, point) in curve.points.iter().enumerate() {
        let step = if index == 0 { 'M' } else { 'L' };
        let (x, y) = (sizes.place(f64::from(point.size)), values.place(point.value));
        let _ = write!(svg, "{step}{x:.1} {y:.1}");
    }
    svg.push_str("\"/>");
    for point in &curve.points {
        let (x, y) = (sizes.place(f64::from(point.size)), values.place(point.value));
        let (low, high) = (values.place(point.low), values.place(point.high));
        let _ = write!(
            svg,
            "<path class=\"span\" d=\"M{x:.1} {low:.1}V{high:.1}\"/><circle class=\"{}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"><title>{}</title></circle>",
            if point.is_whole { "whole" } else { "part" },
            escape(&point.note)
        );
    }
    svg.push_str("</g>");
}

/// A logarithmic axis from one place to another.
struct Axis {
    least: f64,
    greatest: f64,
    from: f64,
    to: f64,
}

impl Axis {
    /// An axis that all these values fit on; `None` if there are none above 0.
    fn over(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Option<Self> {
        let (mut least, mut greatest) = (f64::INFINITY, 0.0_f64);
        for value in values.filter(|value| *value > 0.0) {
            (least, greatest) = (least.min(value), greatest.max(value));
        }
        // Room at both ends, and something to look at if there is but one value.
        (greatest > 0.0).then(|| Self {
            least: least / 1.3,
            greatest: greatest * 1.3,
            from,
            to,
        })
    }

    fn place(&self, value: f64) -> f64 {
        let share = (value.max(self.least) / self.least).ln() / (self.greatest / self.least).ln();
        self.from + share * (self.to - self.from)
    }

    /// Powers of ten; where there are fewer than three, also 2 and 5 times them.
    fn ticks(&self) -> Vec<f64> {
        let of = |steps: &[f64]| {
            let decades = self.least.log10().floor() as i32..=self.greatest.log10().ceil() as i32;
            let all = decades.flat_map(|decade| steps.iter().map(move |step| step * 10_f64.powi(decade)));
            all.filter(|tick| (self.least..=self.greatest).contains(tick))
                .collect::<Vec<_>>()
        };
        let decades = of(&[1.0]);
        if decades.len() < 3 {
            of(&[1.0, 2.0, 5.0])
        } else {
            decades
        }
    }
}

/// Styles before they repeat; the style sheet has as many.
pub(super) const STYLES: usize = 8;
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 74.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 48.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_is_logarithmic_and_has_ticks_at_round_values() {
        let axis = Axis::over([10.0, 1000.0].into_iter(), 0.0, 100.0).unwrap();
        let middle = axis.place(100.0);
        assert!((middle - 50.0).abs() < 1e-9, "{middle}");
        let ticks: Vec<f64> = axis.ticks().iter().map(|tick| tick.round()).collect();
        assert_eq!(ticks, [10.0, 100.0, 1000.0]);
        let narrow = Axis::over([3.0, 40.0].into_iter(), 0.0, 1.0).unwrap();
        let ticks: Vec<f64> = narrow.ticks().iter().map(|tick| tick.round()).collect();
        assert_eq!(ticks, [5.0, 10.0, 20.0, 50.0]);
        assert!(Axis::over([0.0].into_iter(), 0.0, 1.0).is_none());
    }

    #[test]
    fn a_plot_has_every_point_and_no_markup_from_outside() {
        let point = |size| Point {
            size,
            value: 5.0,
            low: 4.0,
            high: 6.0,
            is_whole: size < 100,
            note: "<b>".to_owned(),
        };
        let curves = [Curve {
            style: 9,
            points: vec![point(2), point(100)],
        }];
        let svg = svg("a & b", &curves, |value| value.to_string());
        assert_eq!(svg.matches("<circle").count(), 2);
        assert_eq!(svg.matches("class=\"part\"").count(), 1);
        assert!(svg.contains("a &amp; b") && svg.contains("&lt;b&gt;") && svg.contains("curve s1"));
        assert_eq!(super::svg("none", &[], |value| value.to_string()), "");
    }
}
