//! The description of the API, made from the handlers. What holds for every operation is added here, in one place.

use utoipa::{
    Modify, OpenApi,
    openapi::{
        Content, HeaderBuilder, Ref, RefOr, Required, Response,
        path::{HttpMethod, Operation, Parameter, ParameterBuilder, ParameterIn},
        schema::{ObjectBuilder, Type},
        security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    },
};

use crate::{problem, routes::Routes};

const SCHEME: &str = "bearer";
/// As the gateway names it.
const AGENT_SCHEME: &str = "agent";

/// The description of the API (OpenAPI 3.1).
pub fn openapi() -> utoipa::openapi::OpenApi {
    let mut document = Description::openapi();
    let Routes {
        mut open,
        mut ordinary,
        mut waiting,
        mut uploads,
        mut streams,
        mut gateway,
    } = Routes::new();
    for guarded in [&mut ordinary, &mut waiting, &mut uploads, &mut streams] {
        let mut guarded = guarded.to_openapi();
        each_operation(&mut guarded, guard);
        document.merge(guarded);
    }
    document.merge(open.to_openapi());
    document.merge(gateway.to_openapi());
    each_operation(&mut document, describe_errors);
    document
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "kanade",
        description = "Runs jobs on a fleet of agents. Errors are problem details (RFC 9457); lists are read page by \
                       page along the `Link` header (RFC 8288)."
    ),
    components(schemas(kanade_model::api::Problem)),
    modifiers(&Bearer)
)]
struct Description;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        for (name, description) in [
            (
                SCHEME,
                "A static token or a JSON web token, as the server is configured.",
            ),
            (AGENT_SCHEME, "A token of an agent; it opens nothing else."),
        ] {
            let scheme = HttpBuilder::new()
                .scheme(HttpAuthScheme::Bearer)
                .description(Some(description))
                .build();
            components.add_security_scheme(name, SecurityScheme::Http(scheme));
        }
    }
}

fn each_operation(document: &mut utoipa::openapi::OpenApi, change: impl Fn(&HttpMethod, &mut Operation)) {
    for item in document.paths.paths.values_mut() {
        for (method, operation) in [
            (HttpMethod::Get, &mut item.get),
            (HttpMethod::Put, &mut item.put),
            (HttpMethod::Post, &mut item.post),
            (HttpMethod::Delete, &mut item.delete),
        ] {
            if let Some(operation) = operation {
                change(&method, operation);
            }
        }
    }
}

/// What holds for every operation that wants to know who calls.
fn guard(method: &HttpMethod, operation: &mut Operation) {
    let scheme = SecurityRequirement::new(SCHEME, std::iter::empty::<String>());
    operation.security = Some(vec![scheme]);
    operation.responses.responses.insert(
        "401".into(),
        RefOr::T(Response::new("No token, or one that is not accepted")),
    );
    operation
        .responses
        .responses
        .entry("503".into())
        .or_insert_with(|| {
            RefOr::T(Response::new(
                "The server or a part of it cannot do this now; with `Retry-After`, nothing was done",
            ))
        });
    if *method != HttpMethod::Get {
        let source = header(
            "X-Kanade-Source",
            "The program that calls (`cli`, `spa`), for the audit trail",
        );
        operation
            .parameters
            .get_or_insert_default()
            .push(RefOr::T(source));
    }
}

/// Every error is a problem, and every answer has a request id.
fn describe_errors(_: &HttpMethod, operation: &mut Operation) {
    let responses = &mut operation.responses.responses;
    responses
        .entry("default".into())
        .or_insert_with(|| RefOr::T(Response::new("Any other error")));
    for (status, response) in responses {
        let RefOr::T(response) = response else { continue };
        if is_error(status) && response.content.is_empty() {
            let schema = RefOr::Ref(Ref::from_schema_name("Problem"));
            response.content.insert(
                problem::MEDIA_TYPE.to_owned(),
                RefOr::T(Content::new(Some(schema))),
            );
        }
        let header = HeaderBuilder::new()
            .description(Some("The id of the request, as in the server's log"))
            .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
            .build();
        response.headers.insert("x-request-id".into(), RefOr::T(header));
    }
}

/// A header that a request may have.
pub(crate) fn header(name: &str, description: &str) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
        .build()
}

fn is_error(status: &str) -> bool {
    status == "default" || status.starts_with(['4', '5'])
}
