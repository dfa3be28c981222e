//! The pages that the program carries inside: the demo, or a word of welcome; and beside either
//! the browser client in one file.
//!
//! Everything is served with its type, an entity tag and a policy that lets a page load and reach
//! its own origin alone. The client's file is the one thing that pages of other origins may load:
//! it says nothing of the log, and whether they may connect is decided at `/ws`.

use actix_web::{
    HttpRequest, HttpResponse, guard,
    http::header::{self, ETag, EntityTag, Header, IfNoneMatch},
    web,
};
use uuid::Uuid;

/// Every file of `server/assets`, by its path in there.
static ASSETS: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/assets.rs"));

static WELCOME: &[(&str, &[u8])] = &[
    ("index.html", include_bytes!("pages/welcome.html")),
    ("welcome.css", include_bytes!("pages/welcome.css")),
];

/// The browser client, which any page may import.
const CLIENT: &str = "tidewire.js";

const POLICY: &str = "default-src 'self'; img-src 'self' data:; object-src 'none'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Some pages, each at its path.
#[derive(Debug, Clone)]
pub(crate) struct Pages(Vec<Page>);

#[derive(Debug, Clone)]
struct Page {
    /// Without the leading `/`.
    path: &'static str,
    body: &'static [u8],
    tag: String,
}

impl Pages {
    /// The demo's pages.
    pub(crate) fn demo() -> Self {
        let below = |&(path, body): &(&'static str, _)| Some((path.strip_prefix("demo/")?, body));
        Self::of(ASSETS.iter().filter_map(below).chain(client()))
    }

    /// A word of welcome.
    pub(crate) fn serve() -> Self {
        Self::of(WELCOME.iter().copied().chain(client()))
    }

    fn of(files: impl Iterator<Item = (&'static str, &'static [u8])>) -> Self {
        let tag = |body: &[u8]| Uuid::new_v5(&Uuid::NAMESPACE_OID, body).simple().to_string();
        Self(files.map(|(path, body)| Page { path, body, tag: tag(body) }).collect())
    }

    /// Adds a route for each page. They come before the transport's, which takes all other paths.
    pub(crate) fn configure(&self, app: &mut web::ServiceConfig) {
        for page in &self.0 {
            let path = match page.path.strip_suffix("index.html") {
                Some(directory) => format!("/{directory}"),
                None => format!("/{}", page.path),
            };
            let page = page.clone();
            let answer = move |request: HttpRequest| {
                let answer = page.answer(&request);
                async { answer }
            };
            // To HEAD the same is answered, without the body.
            let asks = guard::Any(guard::Get()).or(guard::Head());
            app.service(web::resource(path).route(web::route().guard(asks).to(answer)));
        }
    }
}

impl Page {
    fn answer(&self, request: &HttpRequest) -> HttpResponse {
        let tag = EntityTag::new_strong(self.tag.clone());
        let is_known = match IfNoneMatch::parse(request) {
            Ok(IfNoneMatch::Any) => true,
            Ok(IfNoneMatch::Items(tags)) => tags.iter().any(|known| known.weak_eq(&tag)),
            Err(_) => false,
        };
        let mut answer = if is_known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
        answer
            .insert_header(ETag(tag))
            .insert_header((header::CACHE_CONTROL, "no-cache"))
            .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
            .insert_header((header::REFERRER_POLICY, "no-referrer"));
        if self.path == CLIENT {
            answer.insert_header((header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"));
        }
        if is_known {
            return answer.finish();
        }
        answer.insert_header((header::CONTENT_TYPE, content_type(self.path))).body(self.body)
    }
}

fn client() -> impl Iterator<Item = (&'static str, &'static [u8])> {
    ASSETS.iter().copied().filter(|(path, _)| *path == CLIENT)
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "json" | "map" | "webmanifest" => "application/json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use actix_web::{App, http::StatusCode, test};

    use super::*;

    #[actix_web::test]
    async fn a_page_comes_with_its_type_and_policy_and_is_not_sent_twice() {
        let pages = Pages::serve();
        let app = test::init_service(App::new().configure(|app| pages.configure(app))).await;

        let first = test::call_service(&app, test::TestRequest::get().uri("/").to_request()).await;
        assert_eq!(first.status(), StatusCode::OK);
        let header = |name| first.headers().get(name).unwrap().to_str().unwrap().to_owned();
        assert_eq!(header(header::CONTENT_TYPE), "text/html; charset=utf-8");
        assert!(header(header::CONTENT_SECURITY_POLICY).starts_with("default-src 'self'"));
        let tag = header(header::ETAG);
        assert!(!test::read_body(first).await.is_empty());

        let again = test::TestRequest::get().uri("/").insert_header((header::IF_NONE_MATCH, tag));
        let again = test::call_service(&app, again.to_request()).await;
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
        assert!(test::read_body(again).await.is_empty());

        let style = test::TestRequest::get().uri("/welcome.css").to_request();
        let style = test::call_service(&app, style).await;
        assert_eq!(style.headers().get(header::CONTENT_TYPE).unwrap(), "text/css; charset=utf-8");
    }

    #[actix_web::test]
    async fn any_page_may_import_the_client_and_nothing_else() {
        for (pages, page) in [(Pages::serve(), "/welcome.css"), (Pages::demo(), "/board.css")] {
            let app = test::init_service(App::new().configure(|app| pages.configure(app))).await;
            let get = async |path| {
                test::call_service(&app, test::TestRequest::get().uri(path).to_request()).await
            };
            let client = get("/tidewire.js").await;
            assert_eq!(client.status(), StatusCode::OK);
            let header = |name| client.headers().get(name).unwrap().to_str().unwrap();
            assert_eq!(header(header::CONTENT_TYPE), "text/javascript; charset=utf-8");
            assert_eq!(header(header::ACCESS_CONTROL_ALLOW_ORIGIN), "*");
            assert!(client.headers().contains_key(header::ETAG));

            let page = get(page).await;
            assert_eq!(page.status(), StatusCode::OK);
            assert!(!page.headers().contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));
        }
    }

    #[::core::prelude::v1::test]
    fn every_asset_has_a_type() {
        for (path, _) in ASSETS.iter().chain(WELCOME) {
            assert_ne!(content_type(path), "application/octet-stream", "{path}");
        }
    }
}
