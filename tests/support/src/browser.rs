//! A real Chromium by its WebDriver, as far as these tests need one.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::http::ask;

/// How long a page has until something shows.
const PATIENCE: Duration = Duration::from_secs(30);

/// Windows that no test uses now: to start one takes seconds. They end with this process.
static FREE: Mutex<Vec<Window>> = Mutex::new(Vec::new());

/// Starts the driver, and ends it when this process is gone or says so; Chromium, which it talks to by a pipe, then ends too.
const DRIVER: &str = "chromedriver --port=0 & driver=$!; read -r _; kill $driver; wait $driver; sleep 1; rm -rf \"$1\"";

/// A process of Chromium and its driver.
struct Window {
    /// The shell around the driver.
    driver: Child,
    address: SocketAddr,
    session: String,
}

/// A window. It is another test's after this one, unless this one fails.
pub struct Browser(Option<Window>);

impl Browser {
    /// Opens a window; `None` where there is no Chromium.
    pub fn open() -> Option<Browser> {
        let free = FREE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        free.or_else(Window::start).map(|window| Browser(Some(window)))
    }

    fn own(&self, what: &str, body: &Value) -> Value {
        let window = self.0.as_ref().expect("it has one until it is dropped");
        window.own(what, body).unwrap_or_else(|error| panic!("{what} {body}: {error}"))
    }

    /// Opens an address.
    pub fn go(&self, url: &str) {
        self.own("/url", &json!({ "url": url }));
    }

    /// What a script in the page returns.
    pub fn run(&self, script: &str) -> Value {
        self.own("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Waits until a script in the page returns something true, and returns that.
    pub fn wait(&self, script: &str) -> Value {
        let started = Instant::now();
        loop {
            let value = self.run(script);
            if !matches!(value, Value::Null | Value::Bool(false)) && value != "" && value != 0 {
                return value;
            }
            if started.elapsed() > PATIENCE {
                let body = self.run("return location.href + '\\n' + document.body.innerText");
                panic!("this did not come true: {script}\n{}", body.as_str().unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(60));
        }
    }

    fn element(&self, selector: &str) -> String {
        self.wait(&format!("return document.querySelector({}) !== null", json!(selector)));
        let found = self.own("/element", &json!({ "using": "css selector", "value": selector }));
        found.as_object().and_then(|found| found.values().next()?.as_str()).expect("an element").to_owned()
    }

    /// Clicks as a person does: what is covered or off cannot be.
    pub fn click(&self, selector: &str) {
        let element = self.element(selector);
        self.own(&format!("/element/{element}/click"), &json!({}));
    }

    /// Types into a field.
    pub fn fill(&self, selector: &str, text: &str) {
        let element = self.element(selector);
        self.own(&format!("/element/{element}/value"), &json!({ "text": text }));
    }

    /// Presses keys with nothing chosen.
    pub fn press(&self, keys: &str) {
        let steps: Vec<Value> = keys
            .chars()
            .flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key })))
            .collect();
        self.own("/actions", &json!({ "actions": [{ "type": "key", "id": "keys", "actions": steps }] }));
    }

    /// Moves the mouse over a point of an element, and with `drag` from there by so many pixels with the button down.
    pub fn point(&self, selector: &str, x: i64, y: i64, drag: Option<i64>) {
        let element = self.element(selector);
        let origin = json!({ "element-6066-11e4-a52e-4f735466cecf": element });
        let step = |x| json!({ "type": "pointerMove", "origin": origin, "x": x, "y": y, "duration": 50 });
        let mut steps = vec![step(x)];
        if let Some(by) = drag {
            steps.extend([
                json!({ "type": "pointerDown", "button": 0 }),
                step(x + by / 2),
                step(x + by),
                json!({ "type": "pointerUp", "button": 0 }),
            ]);
        }
        self.own("/actions", &json!({ "actions": [{ "type": "pointer", "id": "mouse", "parameters": { "pointerType": "mouse" }, "actions": steps }] }));
    }

    /// Bytes that the page's scripts hold, without what nobody holds any more.
    pub fn heap(&self) -> f64 {
        let command = |name: &str| self.own("/goog/cdp/execute", &json!({ "cmd": name, "params": {} }));
        command("HeapProfiler.collectGarbage");
        command("Runtime.getHeapUsage")["usedSize"].as_f64().expect("a number")
    }

    /// What the page has complained of since it was asked last.
    pub fn complaints(&self) -> Vec<String> {
        let log = self.own("/se/log", &json!({ "type": "browser" }));
        let lines = log.as_array().into_iter().flatten().filter(|line| line["level"] == "SEVERE");
        lines.map(|line| line["message"].to_string()).collect()
    }
}

impl Window {
    fn start() -> Option<Window> {
        let profile = tempfile::tempdir().ok()?.keep();
        let mut shell = Command::new("sh");
        shell.args(["-c", DRIVER, "sh"]).arg(&profile).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut driver = shell.stderr(Stdio::null()).spawn().ok()?;
        let mut lines = BufReader::new(driver.stdout.take()?).lines().map_while(Result::ok);
        let line = lines.find(|line| line.contains("started successfully on port"))?;
        let port = line.rsplit(' ').next()?.trim_end_matches('.').parse().ok()?;
        // The driver goes on writing.
        std::thread::spawn(move || lines.for_each(drop));
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut window = Window { driver, address, session: String::new() };
        let flags = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--remote-debugging-pipe",
            "--window-size=1300,900",
        ];
        let folder = format!("--user-data-dir={}", profile.display());
        let flags: Vec<&str> = flags.into_iter().chain([folder.as_str()]).collect();
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome", "goog:chromeOptions": { "args": flags }, "goog:loggingPrefs": { "browser": "ALL" } } } });
        let made = window.call("POST", "/session", &wanted).ok()?;
        window.session = format!("/session/{}", made["sessionId"].as_str()?);
        Some(window)
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let body = if method == "GET" { String::new() } else { body.to_string() };
        let answer = ask(self.address, method, path, &[("Content-Type", "application/json")], &body);
        let value = answer.json()["value"].take();
        if answer.status == 200 { Ok(value) } else { Err(value.to_string()) }
    }

    fn own(&self, what: &str, body: &Value) -> Result<Value, String> {
        self.call("POST", &format!("{}{what}", self.session), body)
    }

    /// Leaves the page, and forgets what it said and kept.
    fn clear(&self) -> Result<Value, String> {
        self.own("/url", &json!({ "url": "about:blank" }))?;
        self.own("/goog/cdp/execute", &json!({ "cmd": "Network.clearBrowserCookies", "params": {} }))?;
        self.own("/se/log", &json!({ "type": "browser" }))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let Some(window) = self.0.take() else { return };
        if !std::thread::panicking() && window.clear().is_ok() {
            FREE.lock().unwrap_or_else(PoisonError::into_inner).push(window);
        }
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // At the end of its input the shell ends the driver.
        drop(self.driver.stdin.take());
        let _ = self.driver.wait();
    }
}
