//! The OpenAPI document as a page: HTML and a style, nothing to run and nothing to load.

use std::fmt::Write as _;

use serde_json::{Map, Value};

const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
code{font:.9em ui-monospace,monospace}\
h2{margin-top:2.5rem;border-bottom:1px solid #8888;text-transform:capitalize}\
details{border:1px solid #8888;border-radius:.4rem;margin:.5rem 0;padding:.4rem .8rem}\
summary{cursor:pointer}\
summary b{display:inline-block;min-width:4.5rem}\
summary span{opacity:.75}\
table{border-collapse:collapse;width:100%;margin:.5rem 0}\
th,td{text-align:left;vertical-align:top;padding:.2rem .6rem .2rem 0;border-bottom:1px solid #8884}\
";

/// The page of a document.
pub fn of(document: &Value) -> String {
    let mut page = String::with_capacity(64 << 10);
    let info = &document["info"];
    let title = escaped(&info["title"]);
    push(&mut page, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
    push(&mut page, "<meta name=\"viewport\" content=\"width=device-width\">");
    let _ = write!(page, "<title>{title}</title><style>{STYLE}</style></head><body>");
    let _ = write!(page, "<h1>{title} {}</h1>", escaped(&info["version"]));
    let _ = write!(page, "<p>{}</p>", escaped(&info["description"]));
    push(&mut page, "<p>For machines: <a href=\"openapi.json\">openapi.json</a></p>");
    for service in services(document) {
        let _ = write!(page, "<h2>{}</h2>", text(service));
        for (path, method, operation) in operations(document) {
            if operation["tags"][0] == service {
                one(&mut page, path, method, operation);
            }
        }
    }
    push(&mut page, "</body></html>\n");
    page
}

/// The first tags, in the order in which they come.
fn services(document: &Value) -> Vec<&str> {
    let mut services = Vec::new();
    for (_, _, operation) in operations(document) {
        if let Some(service) = operation["tags"][0].as_str()
            && !services.contains(&service)
        {
            services.push(service);
        }
    }
    services
}

fn operations(document: &Value) -> impl Iterator<Item = (&str, &str, &Value)> {
    let paths = document["paths"].as_object().into_iter().flatten();
    paths.flat_map(|(path, methods)| {
        let methods = methods.as_object().into_iter().flatten();
        methods.map(move |(method, operation)| (path.as_str(), method.as_str(), operation))
    })
}

fn one(page: &mut String, path: &str, method: &str, operation: &Value) {
    let _ = write!(
        page,
        "<details id=\"{}\"><summary><b>{}</b> <code>{}</code> <span>{}</span></summary>",
        escaped(&operation["operationId"]),
        method.to_ascii_uppercase(),
        text(path),
        escaped(&operation["summary"]),
    );
    if let Some(description) = operation["description"].as_str() {
        let _ = write!(page, "<p>{}</p>", text(description));
    }
    if let Some(body) = operation["requestBody"]["content"].as_object() {
        let _ = write!(page, "<p>Takes {}</p>", codes(body));
    }
    parameters(page, operation);
    push(page, "<table><tr><th>Status</th><th>Meaning</th><th>Media types</th></tr>");
    for (status, response) in operation["responses"].as_object().into_iter().flatten() {
        let none = Map::new();
        let content = response["content"].as_object().unwrap_or(&none);
        let _ = write!(
            page,
            "<tr><td>{}</td><td>{}</td><td>{}</td></tr>",
            text(status),
            escaped(&response["description"]),
            codes(content),
        );
    }
    push(page, "</table></details>");
}

fn parameters(page: &mut String, operation: &Value) {
    let parameters = operation["parameters"].as_array();
    if parameters.is_none_or(Vec::is_empty) {
        return;
    }
    push(page, "<table><tr><th>Parameter</th><th>In</th><th>Meaning</th></tr>");
    for parameter in parameters.into_iter().flatten() {
        let _ = write!(
            page,
            "<tr><td><code>{}</code></td><td>{}</td><td>{}</td></tr>",
            escaped(&parameter["name"]),
            escaped(&parameter["in"]),
            escaped(&parameter["description"]),
        );
    }
    push(page, "</table>");
}

fn codes(content: &Map<String, Value>) -> String {
    let names = content.keys().map(|name| format!("<code>{}</code>", text(name)));
    names.collect::<Vec<_>>().join("<br>")
}

fn escaped(value: &Value) -> String {
    text(value.as_str().unwrap_or_default())
}

/// Text with what means something in HTML written out.
fn text(plain: &str) -> String {
    plain.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn push(page: &mut String, text: &str) {
    page.push_str(text);
}
