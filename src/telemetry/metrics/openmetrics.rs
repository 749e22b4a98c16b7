//! The text format `OpenMetrics` 1.0, which the library does not write: the only text format with exemplars.
//! <https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md>

use std::fmt::Write as _;

use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType};

use super::exemplar::{Book, Exemplar};

/// What the answer is called.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Whether an `Accept` header asks for `OpenMetrics` rather than for the older text.
/// <https://www.rfc-editor.org/rfc/rfc9110#name-accept>
pub(super) fn is_wanted(accept: &str) -> bool {
    let (mut open, mut plain) = (0.0, 0.0);
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default();
        let weight = parts.find_map(|part| part.strip_prefix("q="));
        let weight = weight.map_or(1.0, |q| q.parse().unwrap_or(0.0));
        if kind.eq_ignore_ascii_case("application/openmetrics-text") {
            open = f64::max(open, weight);
        } else if kind.eq_ignore_ascii_case("text/plain") {
            plain = f64::max(plain, weight);
        }
    }
    open > 0.0 && open >= plain
}

/// Writes families as they were gathered, with the exemplars of those that keep some.
pub(super) fn encode(families: &[MetricFamily], book: &Book) -> String {
    let mut page = Page { text: String::with_capacity(64 * 1024), book };
    for family in families {
        page.family(family);
    }
    page.text.push_str("# EOF\n");
    page.text
}

struct Page<'a> {
    text: String,
    book: &'a Book,
}

/// Writing to a string cannot fail.
macro_rules! put {
    ($page:expr, $($args:tt)*) => {
        write!($page.text, $($args)*).expect("a string takes everything")
    };
}

impl Page<'_> {
    fn family(&mut self, family: &MetricFamily) {
        let name = family.name();
        // The name of a counter's family is that of its series without the end.
        let (stem, kind) = match family.get_field_type() {
            MetricType::COUNTER => (name.strip_suffix("_total").unwrap_or(name), "counter"),
            MetricType::HISTOGRAM => (name, "histogram"),
            _ => (name, "gauge"),
        };
        put!(self, "# TYPE {stem} {kind}\n# HELP {stem} ");
        self.escaped(family.help());
        self.text.push('\n');
        for metric in family.get_metric() {
            match family.get_field_type() {
                MetricType::COUNTER => {
                    self.sample(stem, "_total", metric, metric.get_counter().get_value());
                }
                MetricType::HISTOGRAM => self.histogram(name, metric),
                _ => self.sample(name, "", metric, metric.get_gauge().get_value()),
            }
        }
    }

    fn histogram(&mut self, name: &str, metric: &Metric) {
        let histogram = metric.get_histogram();
        let exemplars = self.book.of(name, metric.get_label());
        let bounded = histogram.get_bucket();
        let ends = bounded.iter().map(|bucket| (bucket.upper_bound(), bucket.cumulative_count()));
        let last = (f64::INFINITY, histogram.get_sample_count());
        let is_open = bounded.last().is_none_or(|bucket| bucket.upper_bound().is_finite());
        for (at, (bound, count)) in ends.chain(is_open.then_some(last)).enumerate() {
            put!(self, "{name}_bucket");
            self.labels(metric.get_label(), Some(bound));
            put!(self, " {count}");
            if let Some(kept) = exemplars.as_ref().and_then(|exemplars| exemplars.of(at)) {
                self.exemplar(kept);
            }
            self.text.push('\n');
        }
        self.sample(name, "_sum", metric, histogram.get_sample_sum());
        put!(self, "{name}_count");
        self.labels(metric.get_label(), None);
        put!(self, " {}\n", histogram.get_sample_count());
    }

    fn exemplar(&mut self, Exemplar { trace, value, at_ms }: Exemplar) {
        let (seconds, ms) = (at_ms / 1000, at_ms % 1000);
        put!(self, " # {{trace_id=\"{trace}\"}} {value} {seconds}.{ms:03}");
    }

    fn sample(&mut self, name: &str, end: &str, metric: &Metric, value: f64) {
        put!(self, "{name}{end}");
        self.labels(metric.get_label(), None);
        self.text.push(' ');
        self.number(value);
        self.text.push('\n');
    }

    fn labels(&mut self, labels: &[LabelPair], bound: Option<f64>) {
        if labels.is_empty() && bound.is_none() {
            return;
        }
        let mut before = '{';
        for label in labels {
            put!(self, "{before}{}=\"", label.name());
            self.escaped(label.value());
            self.text.push('"');
            before = ',';
        }
        match bound {
            None => {}
            Some(bound) if bound.is_infinite() => put!(self, "{before}le=\"+Inf\""),
            // Canonical: 1.0 and never 1.
            Some(bound) => put!(self, "{before}le=\"{bound:?}\""),
        }
        self.text.push('}');
    }

    fn number(&mut self, value: f64) {
        if value.is_infinite() {
            put!(self, "{}Inf", if value > 0.0 { '+' } else { '-' });
        } else {
            put!(self, "{value}");
        }
    }

    fn escaped(&mut self, text: &str) {
        for c in text.chars() {
            match c {
                '\\' => self.text.push_str("\\\\"),
                '\n' => self.text.push_str("\\n"),
                '"' => self.text.push_str("\\\""),
                c => self.text.push(c),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::*;
    use super::*;

    fn page(metrics: &Metrics) -> String {
        String::from_utf8(metrics.page(Exposition::OpenMetrics).unwrap()).unwrap()
    }

    #[test]
    fn openmetrics_is_for_those_who_ask() {
        // What Prometheus 2.42 sends.
        let prometheus = "application/openmetrics-text;version=1.0.0,\
            application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert!(is_wanted(prometheus));
        assert!(is_wanted("application/openmetrics-text; version=1.0.0; charset=utf-8"));
        assert!(is_wanted("text/plain;q=0.5, Application/OpenMetrics-Text"));
        for other in [
            "",
            "*/*",
            "text/plain",
            "text/*",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;q=0.4,text/plain;version=0.0.4;q=0.5",
            "application/openmetrics-text;q=x",
        ] {
            assert!(!is_wanted(other), "{other}");
        }
    }

    #[test]
    fn a_bucket_shows_the_trace_of_its_last_sampled_observation() {
        let metrics = Metrics::new();
        let command = metrics.command("render");
        let trace = Sampled::from_bytes([0xab; 16]);
        command.processing_latency.with(Status::Completed).observe(1.5, Some(trace));
        command.processing_latency.with(Status::Completed).observe(0.1, None);
        let page = page(&metrics);
        let line = |le: &str| {
            let start = format!(
                "codeq_task_processing_latency_seconds_bucket{{command=\"render\",status=\"COMPLETED\",le=\"{le}\"}} "
            );
            page.lines().find_map(|line| line.strip_prefix(&start)).unwrap()
        };
        assert_eq!(line("0.1"), "1");
        assert_eq!(line("1.0"), "1");
        assert!(line("2.5").starts_with(&format!("2 # {{trace_id=\"{trace}\"}} 1.5 ")), "{page}");
        assert_eq!(line("+Inf"), "2");
        assert!(page.ends_with("\n# EOF\n"));
    }

    #[test]
    fn a_counters_family_is_called_without_total() {
        let metrics = Metrics::new();
        metrics.command("a\"b\\c").created.inc();
        let page = page(&metrics);
        assert!(page.contains("# TYPE codeq_task_created counter\n"), "{page}");
        assert!(page.contains("codeq_task_created_total{command=\"a\\\"b\\\\c\"} 1\n"), "{page}");
        assert!(!page.contains("_total counter"), "{page}");
    }
}
