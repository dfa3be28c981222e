//! The page and the client that it uses, out of the program itself.

use actix_web::{
    HttpResponse,
    http::header,
    web::{self, ServiceConfig},
};

/// Path, media type and content.
const FILES: [(&str, &str, &str); 6] = [
    ("/", "text/html; charset=utf-8", include_str!("../page/index.html")),
    ("/style.css", "text/css; charset=utf-8", include_str!("../page/style.css")),
    ("/app.js", "text/javascript; charset=utf-8", include_str!("../page/app.js")),
    ("/mail.js", "text/javascript; charset=utf-8", include_str!("../page/mail.js")),
    ("/view.js", "text/javascript; charset=utf-8", include_str!("../page/view.js")),
    (
        "/tidewire.js",
        "text/javascript; charset=utf-8",
        include_str!("../../../server/assets/tidewire.js"),
    ),
];

/// What the page may do: nothing but talk to where it came from.
const POLICY: &str = "default-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'";

/// Serves the page's files.
pub(crate) fn serve(config: &mut ServiceConfig) {
    for (path, media_type, content) in FILES {
        let answer = move || async move {
            HttpResponse::Ok()
                .content_type(media_type)
                .insert_header((header::CACHE_CONTROL, "no-cache"))
                .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
                .body(content)
        };
        config.route(path, web::get().to(answer));
    }
}
