//! The page: what is on it, and what a real browser makes of it.
//!
//! Needs chromium-headless-shell (or chromium) for the second half; without one that is skipped, aloud.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::process::Command;

use sentry_benches::published;
use sentry_benches::record::{Question, Record, Role, Run, Subject, Unit};
use sentry_benches::report::{self, Source};
use sentry_benches::results::Results;

/// A study of mechanisms as hostile as a results file can be: names that are markup, failures, somebody missing, a control
/// that is off, few rounds, and questions that differ in a number only.
fn made_up() -> Source {
    let mut records = vec![Record::Run(Run {
        study: "mechanisms".to_owned(),
        quick: true,
        date: "2000-01-01T00:00:00Z".to_owned(),
        version: "0".to_owned(),
        machine: vec![("cpu".to_owned(), "<b>made up</b>".to_owned())],
    })];
    let subjects = [
        ("native", Role::Native, None),
        ("native again", Role::Control, None),
        ("notify, reply", Role::Mechanism, None),
        ("futex ping-pong", Role::Mechanism, None),
        ("<script>console.error('escaped')</script>", Role::Mechanism, None),
        ("a-mechanism-with-a-name-that-has-no-space-and-goes-on-and-on-and-on-for-ever", Role::Mechanism, None),
        ("sysemu", Role::Mechanism, Some("the kernel \"has\" <none>")),
    ];
    for (name, role, missing) in subjects {
        let (name, how, missing) = (name.to_owned(), "how ".repeat(60), missing.map(str::to_owned));
        records.push(Record::Subject(Subject { name, role, how, version: None, missing }));
    }
    let questions = ["null_call", "filter_8", "filter_64", "filter_512"];
    for name in questions {
        let (name, asks, group) = (name.to_owned(), format!("`{name}` & <i>more</i>"), "made-up calls".to_owned());
        records.push(Record::Question(Question { name, asks, group, unit: Unit::Ns }));
    }
    for (place, question) in questions.into_iter().enumerate() {
        for (number, (subject, _, missing)) in subjects.into_iter().enumerate() {
            for round in 0..4 {
                let (question, subject) = (question.to_owned(), subject.to_owned());
                let value = 100.0 * (1.0 + number as f64) * (1.0 + place as f64) + round as f64;
                if missing.is_none() {
                    records.push(Record::Sample { question, subject, round, value });
                }
            }
        }
    }
    let (question, subject) = ("null_call".to_owned(), "futex ping-pong".to_owned());
    records.push(Record::Failure {
        question,
        subject,
        why: "it <broke> & said so at length, with no end to it".to_owned(),
    });
    let mut results = Results::default();
    let mut raw = Vec::new();
    for record in records {
        raw.extend(serde_json::to_vec(&record).expect("JSON"));
        raw.push(b'\n');
        results.add(record);
    }
    Source { name: "made-up.jsonl".to_owned(), raw, results }
}

/// The results that the repository keeps, and the made-up ones.
fn sources() -> Vec<Source> {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("results/peers.jsonl");
    vec![Source::load(&kept).expect("results"), made_up()]
}

fn page() -> String {
    report::page(&sources(), &published::figures().expect("figures"))
}

#[test]
fn the_page_is_whole_by_itself_and_escapes_what_it_shows() {
    let page = page();
    for loads in ["<script", "<link", "<img", "@import", "url(", "src="] {
        assert!(!page.contains(loads), "{loads}");
    }
    assert!(page.contains("&lt;script&gt;") && !page.contains('`') && !page.contains("<i>more"));
    for told in [
        "it &lt;broke&gt; &amp; said so",
        "the kernel &quot;has&quot; &lt;none&gt;",
        "the run was cut short",
        "the quick form",
        "disturbed",
    ] {
        assert!(page.contains(told), "{told}");
    }
    for source in sources() {
        for question in &source.results.questions {
            let words = question.asks.split('`').find(|part| !part.trim().is_empty()).expect("words");
            assert!(
                page.contains(&words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")),
                "{}",
                question.asks
            );
        }
    }
    for figure in published::figures().expect("figures") {
        assert!(page.contains(&figure.url) && page.contains(&figure.read), "{}", figure.source);
    }
}

#[test]
fn the_same_file_makes_the_same_page() {
    assert_eq!(page(), page());
}

#[test]
fn markdown_has_the_same_promises_and_failures() {
    let text = report::markdown(&sources(), &published::figures().expect("figures"));
    for told in ["| promise | found | goal |", "## Programs (peers)", "- futex ping-pong, `null_call`", "HotCloud"] {
        assert!(text.contains(told), "{told}: {text}");
    }
}

/// A browser that needs no screen.
fn browser() -> Option<&'static str> {
    let known = [
        "/usr/bin/chromium-headless-shell",
        "/usr/bin/chromium",
        "/usr/bin/chromium-browser",
        "/usr/bin/google-chrome",
    ];
    known.into_iter().find(|path| Path::new(path).exists())
}

/// Lets the browser open a page of ours. What it prints, and what it complains about.
fn browse(browser: &str, directory: &Path, arguments: &[String]) -> (String, String) {
    let output = Command::new("timeout")
        .args(["-k", "5", "100", browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"])
        .args(["--no-first-run", "--disable-dev-shm-usage", "--enable-logging=stderr", "--force-device-scale-factor=1"])
        .arg(format!("--user-data-dir={}", directory.join("profile").display()))
        .args(arguments)
        .env("HOME", directory)
        .output()
        .expect("timeout(1)");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{:?}: {}", output.status, text(&output.stderr));
    (text(&output.stdout), text(&output.stderr))
}

/// Tells widths, heights and where each chart stands; and makes one complaint, to see that complaints are seen.
const MEASURE: &str = "<script>
const root = document.documentElement;
const boxes = [...document.querySelectorAll('svg.chart')].map(chart => chart.getBoundingClientRect());
const wide = [...document.body.querySelectorAll(':not(.scroll *):not(svg *):not(.skip)')].filter(item => item.getBoundingClientRect().right > innerWidth + 0.5).map(item => item.outerHTML.slice(0, 90));
parent.postMessage(JSON.stringify({ inner: innerWidth, scroll: root.scrollWidth, height: root.scrollHeight, wide, boxes: boxes.map(box => [box.x, box.y, box.width, box.height].map(Math.floor)) }), '*');
console.error('this is the control');
</script></body>";

/// A frame of a certain width around the page, for windows have a least width; keeps what the page tells as its title.
fn framed(width: u32) -> String {
    format!(
        "<!doctype html><meta charset=utf-8><script>onmessage = told => document.title = told.data;</script>
<iframe src=page.html style='border: 0; width: {width}px; height: 900px'></iframe>"
    )
}

/// What the page tells in a window so wide; there must be no complaint but the control.
fn measured(browser: &str, directory: &Path, width: u32) -> serde_json::Value {
    let frame = directory.join("frame.html");
    std::fs::write(&frame, framed(width)).expect("a file");
    let page = format!("file://{}", frame.display());
    let arguments = ["--window-size=1400,1000", "--virtual-time-budget=5000", "--dump-dom", &page].map(str::to_owned);
    let (dom, complaints) = browse(browser, directory, &arguments);
    let console: Vec<&str> = complaints.lines().filter(|line| line.contains("CONSOLE")).collect();
    assert!(console.len() == 1 && console[0].contains("this is the control"), "{console:#?}");
    let from = dom.find("<title>{").expect("a title") + "<title>".len();
    let title = &dom[from..from + dom[from..].find("</title>").expect("its end")];
    serde_json::from_str(&title.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")).expect("JSON")
}

/// A picture: its width and its pixels, red, green and blue.
struct Picture {
    width: usize,
    pixels: Vec<[u8; 3]>,
}

impl Picture {
    fn load(path: &Path) -> Self {
        let mut decoder = png::Decoder::new(BufReader::new(File::open(path).expect("a screenshot")));
        decoder.set_transformations(png::Transformations::normalize_to_color8());
        let mut reader = decoder.read_info().expect("a PNG");
        let mut bytes = vec![0; reader.output_buffer_size().expect("a size")];
        let frame = reader.next_frame(&mut bytes).expect("pixels");
        let samples = frame.color_type.samples();
        assert!(samples >= 3, "no colours");
        let width = frame.width as usize;
        Self {
            width,
            pixels: bytes[..frame.buffer_size()].chunks(samples).map(|one| [one[0], one[1], one[2]]).collect(),
        }
    }

    /// How many different colours are in a box, and which share of it is not the most frequent one.
    fn drawn(&self, [x, y, width, height]: [usize; 4]) -> (usize, f64) {
        let mut counts = std::collections::BTreeMap::<[u8; 3], usize>::new();
        for row in y..y + height {
            for pixel in &self.pixels[row * self.width + x..row * self.width + x + width] {
                *counts.entry(*pixel).or_default() += 1;
            }
        }
        let most = counts.values().max().copied().unwrap_or_default();
        (counts.len(), 1.0 - most as f64 / (width * height) as f64)
    }
}

fn bright(pixel: [u8; 3]) -> u32 {
    pixel.iter().map(|part| u32::from(*part)).sum::<u32>() / 3
}

#[test]
fn a_browser_shows_it() {
    let Some(browser) = browser() else {
        eprintln!("SKIPPED: page: no chromium is installed; make test-deps installs chromium-headless-shell");
        return;
    };
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("page.html");
    std::fs::write(&path, page().replace("</body>", MEASURE)).expect("a file");

    // A phone, a tablet and a desk: the page is never wider than the window.
    for width in [390, 768, 1280] {
        let found = measured(browser, directory.path(), width);
        assert_eq!((&found["inner"], &found["scroll"]), (&width.into(), &width.into()), "{found}");
        assert_eq!(found["wide"], serde_json::json!([]), "stands out at {width}");
    }

    let found = measured(browser, directory.path(), 1280);
    let height = found["height"].as_u64().expect("a height").min(16_000);
    let boxes: Vec<[usize; 4]> = serde_json::from_value(found["boxes"].clone()).expect("boxes");
    assert!(boxes.len() > 20, "{} charts", boxes.len());
    for (scheme, setting, light) in [("light", 1, true), ("dark", 0, false)] {
        let shot = directory.path().join(format!("{scheme}.png"));
        let arguments = [
            format!("--blink-settings=preferredColorScheme={setting}"),
            format!("--window-size=1280,{height}"),
            format!("--screenshot={}", shot.display()),
            format!("file://{}", path.display()),
        ];
        browse(browser, directory.path(), &arguments);
        let picture = Picture::load(&shot);
        assert_eq!(bright(picture.pixels[0]) > 128, light, "{scheme}: the page is {:?}", picture.pixels[0]);
        for chart in boxes.iter().filter(|[_, y, _, height_of]| ((y + height_of) as u64) < height) {
            let (colours, share) = picture.drawn(*chart);
            assert!(colours > 20 && share > 0.03, "{scheme}: a blank chart at {chart:?}: {colours} colours, {share}");
        }
    }
}
