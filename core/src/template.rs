//! A view over the template: the JSON text in which Argo Workflows describes one step (docs/protocol.md, "Files" and "Main").
//!
//! Enters: the bytes of the template file. Leaves: iterators over parameters, artifacts, containers, mounts and sidecars. Lists have any length; a string is
//! decoded when the caller uses it. Refuses: text that is not JSON, and a field that emissary uses and whose type is not the protocol's. Emissary skips fields
//! that it does not use.
//!
//! [`Template::parse`] walks each object once and keeps where the lists begin. An iterator walks its own list once and reads nothing outside that list: a
//! template may have thousands of outputs and a script of megabytes.

use crate::buf::{Writer, display_by_describe};
use crate::json::{self, JsonError, Str, Value};
use crate::layout;
use crate::time::{self, TimeError};

/// Why the parser refuses a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TemplateError {
    /// The document is not JSON.
    Json(JsonError),
    /// A field's type is not the protocol's.
    Type {
        /// The field; `[]` stands for an element of a list.
        field: &'static str,
        /// The wanted type.
        want: &'static str,
        /// Bytes before the field's value.
        offset: usize,
        /// The index in each list that `field` names.
        indices: Indices,
    },
}

impl TemplateError {
    /// Bytes before the fault.
    #[must_use]
    pub const fn offset(&self) -> usize {
        match self {
            Self::Json(JsonError { offset, .. }) | Self::Type { offset, .. } => *offset,
        }
    }

    /// Writes the cause as one lowercase clause.
    pub fn describe(&self, out: &mut Writer<'_>) {
        match self {
            Self::Json(error) => error.describe(out),
            Self::Type { field, want, offset, indices } => {
                write_field(field, *indices, out);
                out.text(" is not ").text(want).text(" at byte ").decimal(*offset as u64);
            }
        }
    }

    const fn new(field: &'static str, want: &'static str, offset: usize) -> Self {
        Self::Type { field, want, offset, indices: Indices::NONE }
    }

    /// Sets the index in the field's list number `list`.
    fn at(mut self, list: usize, index: usize) -> Self {
        if let Self::Type { indices, .. } = &mut self
            && let Some(place) = indices.0.get_mut(list)
        {
            *place = u32::try_from(index).unwrap_or(u32::MAX);
        }
        self
    }
}

/// The index in each list that a field names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Indices([u32; 2]);

impl Indices {
    const NONE: Self = Self([0; 2]);
}

/// Writes a field's name, with the index in each `[]`.
fn write_field(field: &str, indices: Indices, out: &mut Writer<'_>) {
    let mut indices = indices.0.into_iter();
    for byte in field.bytes() {
        out.byte(byte);
        if byte == b'[' {
            out.decimal(indices.next().unwrap_or(0).into());
        }
    }
}

display_by_describe!(TemplateError);

/// An output parameter with a path.
#[derive(Debug, Clone, Copy)]
pub struct Parameter<'a> {
    /// The parameter's name; empty if the template gives none. Emissary saves a parameter by its path, not by its name.
    pub name: Str<'a>,
    /// The file that holds the value.
    pub path: Str<'a>,
    /// The value to use if that file is missing: a string, or a number, `true` or `false` as the template writes it.
    pub default: Option<Str<'a>>,
}

/// How the template wants an artifact packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// The template does not say.
    Default,
    /// `archive.tar.compressionLevel`, 0 to 9.
    Level(u8),
    /// Level -2: Huffman codes alone, without a search for repetitions.
    HuffmanOnly,
    /// `archive.none` or `archive.zip`: the wait container unpacks the archive at once.
    Unpacked,
}

/// An artifact with a path.
#[derive(Debug, Clone, Copy)]
pub struct Artifact<'a> {
    /// The artifact's name; empty if the template gives none.
    pub name: Str<'a>,
    /// The file or folder.
    pub path: Str<'a>,
    /// How to pack the artifact. An input artifact arrives unpacked.
    pub packing: Packing,
    /// The template's `compressionLevel` if that is not a valid level. `packing` then has the nearest valid level.
    pub odd_level: Option<Value<'a>>,
    /// The artifact may be missing.
    pub is_optional: bool,
}

/// A container set's retry strategy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// The total number of attempts, at least 1.
    pub attempts: u32,
    /// Milliseconds between two attempts.
    pub pause_ms: u64,
}

/// A checked template.
#[derive(Debug, Clone, Copy)]
pub struct Template<'a> {
    root: Value<'a>,
    output_parameters: Value<'a>,
    output_artifacts: Value<'a>,
    input_artifacts: Value<'a>,
    /// The `volumeMounts` of `container`, `script` and `containerSet`.
    mounts: [Value<'a>; 3],
    containers: Value<'a>,
    sidecars: Value<'a>,
    archives_logs: bool,
    retry: Retry,
}

/// Checks that a value is `null` or that `is` accepts it.
#[inline(never)]
fn typed<'a>(
    value: Value<'a>,
    is: &dyn Fn(&Value<'a>) -> bool,
    field: &'static str,
    want: &'static str,
) -> Result<Value<'a>, TemplateError> {
    if value.is_null() || is(&value) { Ok(value) } else { Err(TemplateError::new(field, want, value.offset())) }
}

#[inline(never)]
fn object<'a>(value: Value<'a>, field: &'static str) -> Result<Value<'a>, TemplateError> {
    typed(value, &Value::is_object, field, "an object")
}

#[inline(never)]
fn list<'a>(value: Value<'a>, field: &'static str) -> Result<Value<'a>, TemplateError> {
    typed(value, &Value::is_array, field, "an array")
}

fn string<'a>(value: Value<'a>, field: &'static str) -> Result<Option<Str<'a>>, TemplateError> {
    typed(value, &|value| value.as_str().is_some(), field, "a string").map(|value| value.as_str())
}

/// Checks that a value is a list of objects, and checks each object.
#[inline(never)]
fn objects<'a>(
    value: Value<'a>,
    field: &'static str,
    field_of_each: &'static str,
    check: &dyn Fn(Value<'a>) -> Result<(), TemplateError>,
) -> Result<Value<'a>, TemplateError> {
    for (index, element) in list(value, field)?.elements().enumerate() {
        // An element that is `null` asks for nothing.
        object(element, field_of_each).and_then(check).map_err(|error| error.at(0, index))?;
    }
    Ok(value)
}

impl<'a> Template<'a> {
    /// Checks a whole template.
    ///
    /// # Errors
    /// [`TemplateError::Json`] if the text is not JSON; [`TemplateError::Type`] if a field that emissary uses has a wrong type.
    pub fn parse(document: &'a [u8]) -> Result<Self, TemplateError> {
        let root = json::parse(document).map_err(TemplateError::Json)?;
        if !root.is_object() {
            return Err(TemplateError::new("the template", "an object", root.offset()));
        }
        let [outputs, inputs, container, script, set, sidecars, location] =
            root.members_named(["outputs", "inputs", "container", "script", "containerSet", "sidecars", "archiveLocation"]);
        let [parameters, artifacts] = object(outputs, "outputs")?.members_named(["parameters", "artifacts"]);
        let output_parameters = objects(parameters, "outputs.parameters", "outputs.parameters[]", &|value| parameter(value).map(drop))?;
        let output_artifacts = objects(artifacts, "outputs.artifacts", "outputs.artifacts[]", &|value| output_artifact(value).map(drop))?;
        let [artifacts] = object(inputs, "inputs")?.members_named(["artifacts"]);
        let input_artifacts = objects(artifacts, "inputs.artifacts", "inputs.artifacts[]", &|value| input_artifact(value).map(drop))?;
        let [mounts] = object(container, "container")?.members_named(["volumeMounts"]);
        let container_mounts = check_mounts(mounts, CONTAINER_MOUNTS)?;
        let [mounts] = object(script, "script")?.members_named(["volumeMounts"]);
        let script_mounts = check_mounts(mounts, SCRIPT_MOUNTS)?;
        let [mounts, containers, strategy] = object(set, "containerSet")?.members_named(["volumeMounts", "containers", "retryStrategy"]);
        let mounts = [container_mounts, script_mounts, check_mounts(mounts, SET_MOUNTS)?];
        let containers = objects(containers, "containerSet.containers", "containerSet.containers[]", &check_container)?;
        let retry = retry(strategy)?;
        let sidecars = objects(sidecars, "sidecars", "sidecars[]", &|sidecar| {
            let [name] = sidecar.members_named(["name"]);
            check_name(name, "sidecars[].name")
        })?;
        let [archives_logs] = object(location, "archiveLocation")?.members_named(["archiveLogs"]);
        let archives_logs = typed(archives_logs, &|value| value.as_bool().is_some(), "archiveLocation.archiveLogs", "true or false")?;
        Ok(Self {
            root,
            output_parameters,
            output_artifacts,
            input_artifacts,
            mounts,
            containers,
            sidecars,
            archives_logs: archives_logs.as_bool().unwrap_or(false),
            retry,
        })
    }

    /// Output parameters that have a path.
    pub fn output_parameters(&self) -> impl Iterator<Item = Parameter<'a>> + use<'a> {
        self.output_parameters.elements().filter_map(|value| parameter(value).ok()?)
    }

    /// Output artifacts that have a path.
    pub fn output_artifacts(&self) -> impl Iterator<Item = Artifact<'a>> + use<'a> {
        self.output_artifacts.elements().filter_map(|value| output_artifact(value).ok()?)
    }

    /// Input artifacts that have a path.
    pub fn input_artifacts(&self) -> impl Iterator<Item = Artifact<'a>> + use<'a> {
        self.input_artifacts.elements().filter_map(|value| input_artifact(value).ok()?)
    }

    /// Mount paths of the main containers' volumes.
    pub fn mount_paths(&self) -> impl Iterator<Item = Str<'a>> + use<'a> {
        self.mounts.into_iter().flat_map(|mounts| mounts.elements()).filter_map(|mount| mount_path(mount).as_str())
    }

    /// Names of the containers of the container set; empty if the template has no set.
    pub fn container_names(&self) -> impl Iterator<Item = Str<'a>> + use<'a> {
        self.containers.elements().filter_map(|container| {
            let [name] = container.members_named(["name"]);
            name.as_str()
        })
    }

    /// Names of the containers that the container `name` depends on.
    pub fn dependencies(&self, name: &'a [u8]) -> impl Iterator<Item = Str<'a>> + use<'a> {
        self.containers
            .elements()
            .filter_map(move |container| {
                let [own, dependencies] = container.members_named(["name", "dependencies"]);
                own.as_str()?.is(name).then_some(dependencies)
            })
            .flat_map(|dependencies| dependencies.elements())
            .filter_map(|dependency| dependency.as_str())
    }

    /// The containers of the set. The caller sorts them and passes them to [`check_order`].
    pub fn nodes(&self) -> impl Iterator<Item = Node<'a>> + use<'a> {
        self.containers.elements().filter_map(|container| {
            let [name, dependencies] = container.members_named(["name", "dependencies"]);
            let mut node =
                Node { name: [0; crate::limits::CONTAINER_NAME_BYTES], dependencies: dependencies.elements(), state: State::New, from: 0 };
            name.as_str()?.decode(&mut node.name).ok()?;
            Some(node)
        })
    }

    /// Calls `each` for each field that emissary does not use and whose name is almost the name of a field that it uses.
    #[inline(never)]
    pub fn misspelt(&self, each: &mut dyn FnMut(Misspelt<'a>)) {
        for (object, names) in &OBJECTS {
            let mut path = object.as_bytes().split(|&byte| byte == b'[');
            let holder = walk(self.root, path.next().unwrap_or_default());
            match path.next() {
                None => look(holder, object, names, 0, each),
                Some(below) => {
                    // Skips the closing bracket.
                    let below = below.get(1..).unwrap_or_default();
                    for (index, element) in (0..).zip(holder.elements()) {
                        look(walk(element, below), object, names, index, each);
                    }
                }
            }
        }
    }

    /// Whether the container `name` is a sidecar.
    #[must_use]
    pub fn is_sidecar(&self, name: &[u8]) -> bool {
        self.sidecars.elements().any(|sidecar| {
            let [own] = sidecar.members_named(["name"]);
            own.as_str().is_some_and(|own| own.is(name))
        })
    }

    /// Whether the template asks to archive the logs. Emissary then captures them.
    #[must_use]
    pub const fn archives_logs(&self) -> bool {
        self.archives_logs
    }

    /// The container set's retry strategy; one attempt if the template has none.
    #[must_use]
    pub const fn retry(&self) -> Retry {
        self.retry
    }
}

/// An output parameter; `None` if it has no path. A name of a wrong type is allowed, because emissary saves a parameter by its path.
fn parameter(value: Value<'_>) -> Result<Option<Parameter<'_>>, TemplateError> {
    let [name, from] = value.members_named(["name", "valueFrom"]);
    let [path, default] = object(from, "outputs.parameters[].valueFrom")?.members_named(["path", "default"]);
    let path = path_of(path, "outputs.parameters[].valueFrom.path")?;
    Ok(path.map(|path| Parameter { name: name.as_str().unwrap_or(Str::EMPTY), path, default: default.as_any_string() }))
}

/// A path; `None` if it is absent or empty.
fn path_of<'a>(path: Value<'a>, field: &'static str) -> Result<Option<Str<'a>>, TemplateError> {
    Ok(string(path, field)?.filter(|path| path.raw_len() > 0))
}

/// An output artifact; `None` if it has no path. The name and the packing are hints, so their types may be wrong.
fn output_artifact(value: Value<'_>) -> Result<Option<Artifact<'_>>, TemplateError> {
    let [name, path, archive, optional] = value.members_named(["name", "path", "archive", "optional"]);
    let path = path_of(path, "outputs.artifacts[].path")?;
    let [tar, none, zip] = archive.members_named(["tar", "none", "zip"]);
    let [level] = tar.members_named(["compressionLevel"]);
    let (mut packing, is_odd) = packing(level);
    if !none.is_null() || !zip.is_null() {
        packing = Packing::Unpacked;
    }
    let name = name.as_str().unwrap_or(Str::EMPTY);
    Ok(path.map(|path| Artifact { name, path, packing, odd_level: is_odd.then_some(level), is_optional: optional.as_bool() == Some(true) }))
}

/// An input artifact; `None` if it has no path. Emissary finds the artifact by its name, so the name's type must be right.
fn input_artifact(value: Value<'_>) -> Result<Option<Artifact<'_>>, TemplateError> {
    let [name, path] = value.members_named(["name", "path"]);
    let name = string(name, "inputs.artifacts[].name")?.unwrap_or(Str::EMPTY);
    let path = path_of(path, "inputs.artifacts[].path")?;
    Ok(path.map(|path| Artifact { name, path, packing: Packing::Default, odd_level: None, is_optional: false }))
}

/// `compressionLevel` with Go's meaning: 0 to 9, -1 for the default, -2 for Huffman codes alone. For any other value: the nearest level, and `true`.
fn packing(level: Value<'_>) -> (Packing, bool) {
    match level.as_number() {
        None => (Packing::Default, !level.is_null()),
        Some(b"-1") => (Packing::Default, false),
        Some(b"-2") => (Packing::HuffmanOnly, false),
        Some(digits) if digits.iter().all(u8::is_ascii_digit) => {
            let level = digits.iter().fold(0_u8, |value, digit| value.saturating_mul(10).saturating_add(digit.saturating_sub(b'0')));
            (Packing::Level(level.min(9)), level > 9)
        }
        Some(_) => (Packing::Default, true),
    }
}

/// Field names for messages: a list of mounts, an element of the list, and the path of an element.
type MountFields = [&'static str; 3];

const CONTAINER_MOUNTS: MountFields = ["container.volumeMounts", "container.volumeMounts[]", "container.volumeMounts[].mountPath"];
const SCRIPT_MOUNTS: MountFields = ["script.volumeMounts", "script.volumeMounts[]", "script.volumeMounts[].mountPath"];
const SET_MOUNTS: MountFields = ["containerSet.volumeMounts", "containerSet.volumeMounts[]", "containerSet.volumeMounts[].mountPath"];

#[inline(never)]
fn check_mounts(mounts: Value<'_>, [all, each, path]: MountFields) -> Result<Value<'_>, TemplateError> {
    objects(mounts, all, each, &|mount| string(mount_path(mount), path).map(drop))
}

fn mount_path(mount: Value<'_>) -> Value<'_> {
    let [path] = mount.members_named(["mountPath"]);
    path
}

fn check_container(container: Value<'_>) -> Result<(), TemplateError> {
    let [name, dependencies] = container.members_named(["name", "dependencies"]);
    check_name(name, "containerSet.containers[].name")?;
    for (index, dependency) in list(dependencies, "containerSet.containers[].dependencies")?.elements().enumerate() {
        let field = "containerSet.containers[].dependencies[]";
        let checked =
            if dependency.is_null() { Err(TemplateError::new(field, A_NAME, dependency.offset())) } else { check_name(dependency, field) };
        checked.map_err(|error| error.at(1, index))?;
    }
    Ok(())
}

/// What [`check_name`] wants, for a message.
const A_NAME: &str = "a container's name";

/// Checks a container's name. The name becomes a folder's name, so a name that cannot be one is refused.
fn check_name(name: Value<'_>, field: &'static str) -> Result<(), TemplateError> {
    let is_name = |name: &Value<'_>| {
        let mut room = [0; crate::limits::CONTAINER_NAME_BYTES];
        name.as_str().is_some_and(|text| text.decode(&mut room).is_ok_and(|text| layout::check_name(text).is_ok()))
    };
    typed(name, &is_name, field, A_NAME).map(drop)
}

/// A container set's retry strategy, which may be `null`.
fn retry(strategy: Value<'_>) -> Result<Retry, TemplateError> {
    let [retries, duration] = object(strategy, "containerSet.retryStrategy")?.members_named(["retries", "duration"]);
    let field = "containerSet.retryStrategy.retries";
    let retries = typed(retries, &|value| attempts(*value).is_some(), field, "a whole number, or digits in a string")?;
    let field = "containerSet.retryStrategy.duration";
    let want = if nanoseconds(duration) == Some(Err(TimeError::OutOfRange)) { "within 292 years" } else { "a duration such as 1m30s" };
    let duration = typed(duration, &|value| matches!(nanoseconds(*value), Some(Ok(_))), field, want)?;
    let pause = nanoseconds(duration).and_then(Result::ok);
    let pause_ms = pause.and_then(|nanoseconds| u64::try_from(nanoseconds).ok()).unwrap_or(0).div_ceil(1_000_000);
    Ok(Retry { attempts: attempts(retries).unwrap_or(1).max(1), pause_ms })
}

/// The number of attempts in `retries`: a number, or digits in a string. `None` for anything else. A negative number gives 0.
fn attempts(retries: Value<'_>) -> Option<u32> {
    let mut room = [0; 24];
    let digits = match (retries.as_number(), retries.as_str()) {
        (Some(number), _) => number,
        (None, Some(string)) => string.decode(&mut room).ok()?.trim_ascii(),
        (None, None) => return None,
    };
    if let Some(digits) = digits.strip_prefix(b"-") {
        return crate::exit::parse_decimal(digits).map(|_| 0);
    }
    crate::exit::parse_decimal(digits).map(|attempts| u32::try_from(attempts).unwrap_or(u32::MAX))
}

/// A duration in a string; `None` if the value is not a string.
fn nanoseconds(duration: Value<'_>) -> Option<Result<i64, TimeError>> {
    Some(time::parse_duration(duration.as_str()?.decode(&mut [0; 64]).ok()?))
}

/// A field that emissary does not use and whose name is almost the name of a field that it uses.
#[derive(Debug, Clone, Copy)]
pub struct Misspelt<'a> {
    /// The object that holds the field; `[]` stands for an element of a list. Empty for the template itself.
    object: &'static str,
    indices: Indices,
    key: Str<'a>,
    meant: &'static [u8],
    /// Bytes before the field's value.
    pub offset: usize,
}

impl Misspelt<'_> {
    /// Writes the warning as one lowercase clause.
    pub fn describe(&self, out: &mut Writer<'_>) {
        if !self.object.is_empty() {
            write_field(self.object, self.indices, out);
            out.text(": ");
        }
        out.text("unknown field '");
        self.key.write(out);
        out.text("' at byte ").decimal(self.offset as u64).text("; is '").bytes(self.meant).text("' meant?");
    }
}

/// The objects in which [`Template::misspelt`] looks, and the fields that emissary uses of each. A path goes through one list at most.
const OBJECTS: [(&str, &str); 19] = [
    ("", "outputs inputs container script containerSet sidecars archiveLocation"),
    ("outputs", "parameters artifacts"),
    ("outputs.parameters[]", "name valueFrom"),
    ("outputs.parameters[].valueFrom", "path default"),
    ("outputs.artifacts[]", "name path archive optional"),
    ("outputs.artifacts[].archive", "tar none zip"),
    ("outputs.artifacts[].archive.tar", "compressionLevel"),
    ("inputs", "parameters artifacts"),
    ("inputs.artifacts[]", "name path"),
    ("container", "volumeMounts"),
    ("script", "volumeMounts"),
    ("containerSet", "volumeMounts containers retryStrategy"),
    ("containerSet.containers[]", "name dependencies"),
    ("containerSet.retryStrategy", "retries duration"),
    ("container.volumeMounts[]", "mountPath"),
    ("script.volumeMounts[]", "mountPath"),
    ("containerSet.volumeMounts[]", "mountPath"),
    ("sidecars[]", "name"),
    ("archiveLocation", "archiveLogs"),
];

/// Calls `each` for the misspelt fields of one object.
fn look<'a>(value: Value<'a>, object: &'static str, names: &'static str, index: u32, each: &mut dyn FnMut(Misspelt<'a>)) {
    for (key, member) in value.members() {
        let mut room = [0; 24];
        let Ok(name) = key.decode(&mut room) else { continue };
        let mut known = names.as_bytes().split(|&byte| byte == b' ');
        if known.clone().any(|known| known == name) {
            continue;
        }
        // Two changes in a short name make another word.
        if let Some(meant) = known.find(|known| is_near(name, known, if known.len() < 6 { 1 } else { 2 })) {
            each(Misspelt { object, indices: Indices([index, 0]), key, meant, offset: member.offset() });
        }
    }
}

/// The value at a path of names, separated by points.
#[inline(never)]
fn walk<'a>(from: Value<'a>, path: &[u8]) -> Value<'a> {
    let mut at = from;
    for name in path.split(|&byte| byte == b'.').filter(|name| !name.is_empty()) {
        at = at.members().filter(|(key, _)| key.is(name)).last().map_or(Value::NULL, |(_, member)| member);
    }
    at
}

/// Whether at most `changes` changes turn one name into the other. A change inserts, removes or replaces a letter, or swaps two neighbours. Upper and lower
/// case are equal.
#[inline(never)]
fn is_near(name: &[u8], other: &[u8], changes: u8) -> bool {
    let same = name.iter().zip(other).take_while(|(a, b)| a.eq_ignore_ascii_case(b)).count();
    let (name, other) = (name.get(same..).unwrap_or_default(), other.get(same..).unwrap_or_default());
    let (Some((first, name_rest)), Some((other_first, other_rest))) = (name.split_first(), other.split_first()) else {
        return name.len().max(other.len()) <= usize::from(changes);
    };
    let Some(left) = changes.checked_sub(1) else { return false };
    // The recursion is at most as deep as `changes`.
    if is_near(name_rest, other_rest, left) || is_near(name_rest, other, left) || is_near(name, other_rest, left) {
        return true;
    }
    match (name_rest.split_first(), other_rest.split_first()) {
        (Some((second, name_rest)), Some((other_second, other_rest))) => {
            first.eq_ignore_ascii_case(other_second) && second.eq_ignore_ascii_case(other_first) && is_near(name_rest, other_rest, left)
        }
        _ => false,
    }
}

/// A container of a set, for [`check_order`]. Nodes are sorted by name.
#[derive(Debug, Clone)]
pub struct Node<'a> {
    name: [u8; crate::limits::CONTAINER_NAME_BYTES],
    dependencies: json::Elements<'a>,
    state: State,
    /// The index of the node from which the search reached this one.
    from: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    /// The search is among this container's dependencies.
    Open,
    Done,
}

impl Node<'_> {
    /// The container's name.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.name.split(|&byte| byte == 0).next().unwrap_or_default()
    }

    /// The index of the node that waits for this one. It is valid after [`check_order`] has returned an error.
    #[must_use]
    pub const fn waited_for_by(&self) -> usize {
        self.from
    }
}

impl PartialEq for Node<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Node<'_> {}

impl PartialOrd for Node<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Node<'_> {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        self.name.cmp(&other.name)
    }
}

/// Why some containers can never start. Numbers are indices of nodes.
#[derive(Debug, Clone, Copy)]
pub enum OrderError<'a> {
    /// `last` waits for `first`, and `first` waits for `last`, directly or through other containers.
    Cycle {
        /// The node where the cycle begins.
        first: usize,
        /// The node where the cycle closes.
        last: usize,
    },
    /// A container waits for a name that no container of the set has.
    Unknown {
        /// The node that waits.
        waiting: usize,
        /// The unknown name.
        name: Str<'a>,
    },
}

/// Looks for containers that wait for ever: for each other, or for an unknown container. `nodes` are those of [`Template::nodes`], sorted. The search looks at
/// each dependency once.
///
/// # Errors
/// The first error that the search finds.
pub fn check_order<'a>(nodes: &mut [Node<'a>]) -> Result<(), OrderError<'a>> {
    for start in 0..nodes.len() {
        let mut at = start;
        while let Some(node) = nodes.get_mut(at) {
            if node.state == State::Done {
                break;
            }
            node.state = State::Open;
            let Some(name) = node.dependencies.find_map(|dependency| dependency.as_str()) else {
                node.state = State::Done;
                let from = node.from;
                if at == start {
                    break;
                }
                at = from;
                continue;
            };
            let mut room = [0; crate::limits::CONTAINER_NAME_BYTES];
            // The parser has checked that each name fits.
            let _ = name.decode(&mut room);
            let Ok(next) = nodes.binary_search_by(|node| node.name.cmp(&room)) else {
                return Err(OrderError::Unknown { waiting: at, name });
            };
            let Some(node) = nodes.get_mut(next) else { break };
            match node.state {
                State::Open => return Err(OrderError::Cycle { first: next, last: at }),
                State::Done => {}
                State::New => {
                    node.from = at;
                    at = next;
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::tests::visited;
    use std::string::String;
    use std::vec::Vec;

    fn text(value: Str<'_>) -> String {
        let mut room = [0xa5; 256];
        String::from_utf8(value.decode(&mut room).unwrap().to_vec()).unwrap()
    }

    #[test]
    fn a_whole_template() {
        let document = br#"{"name":"x","metadata":{"a":[1,2.5e3,null,true,{"b":"\\\"}]"}]},
            "inputs":{"artifacts":[{"name":"in","path":"/in"}]},
            "container":{"volumeMounts":[{"name":"v","mountPath":"/data"}]},
            "script":{"volumeMounts":[{"mountPath":"/s"}]},
            "containerSet":{"volumeMounts":[{"mountPath":"/set"}],"containers":[{"name":"a"},{"name":"b","dependencies":["a"]}],
                "retryStrategy":{"retries":"2","duration":"10ms"}},
            "sidecars":[{"name":"side"}],"archiveLocation":{"archiveLogs":true},
            "outputs":{"parameters":[{"name":"p","valueFrom":{"path":"/tmp/p","default":"d"}},{"name":"q","valueFrom":{"expression":"1"}},{"name":"r","value":"v"}],
                "artifacts":[{"name":"t","path":"/t","archive":{"tar":{"compressionLevel":3}}},{"name":"n","path":"/n","archive":{"none":{}}},
                    {"name":"z","path":"/z","archive":{"zip":{}}},{"name":"d","path":"/d","archive":{"tar":{"compressionLevel":-1}}},{"name":"nowhere"}]}}"#;
        let template = Template::parse(document).unwrap();
        let parameters: Vec<_> = template.output_parameters().map(|p| (text(p.name), text(p.path), p.default.map(text))).collect();
        assert_eq!(parameters, [("p".into(), "/tmp/p".into(), Some("d".into()))]);
        let artifacts: Vec<_> = template.output_artifacts().map(|a| (text(a.name), text(a.path), a.packing)).collect();
        assert_eq!(
            artifacts,
            [
                ("t".into(), "/t".into(), Packing::Level(3)),
                ("n".into(), "/n".into(), Packing::Unpacked),
                ("z".into(), "/z".into(), Packing::Unpacked),
                ("d".into(), "/d".into(), Packing::Default)
            ]
        );
        assert_eq!(template.input_artifacts().map(|a| text(a.path)).collect::<Vec<_>>(), ["/in"]);
        assert_eq!(template.mount_paths().map(text).collect::<Vec<_>>(), ["/data", "/s", "/set"]);
        let is_on_mount = |path: &[u8]| {
            let is_inside = |mount: Str<'_>| layout::is_inside(path, layout::clean(text(mount).as_bytes(), &mut [0xa5; 16]).unwrap());
            template.mount_paths().any(is_inside)
        };
        assert!(is_on_mount(b"/data/x"));
        assert!(!is_on_mount(b"/data2"));
        assert_eq!(template.container_names().map(text).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(template.dependencies(b"b").map(text).collect::<Vec<_>>(), ["a"]);
        assert_eq!(template.dependencies(b"a").count(), 0);
        assert!(template.is_sidecar(b"side") && !template.is_sidecar(b"a"));
        assert!(template.archives_logs());
        assert_eq!(template.retry(), Retry { attempts: 2, pause_ms: 10 });
    }

    #[test]
    fn nothing_and_nulls() {
        for document in [
            &b"{}"[..],
            br#"{"outputs":null,"inputs":{"artifacts":null},"sidecars":null,"containerSet":null,"archiveLocation":null,"container":null}"#,
        ] {
            let template = Template::parse(document).unwrap();
            assert_eq!(template.output_parameters().count() + template.output_artifacts().count() + template.container_names().count(), 0);
            assert!(!template.archives_logs());
            assert_eq!(template.retry(), Retry { attempts: 1, pause_ms: 0 });
        }
    }

    #[test]
    fn retries() {
        for (strategy, attempts, pause_ms) in [
            (r#"{"retries":0}"#, 1, 0),
            (r#"{"retries":"1"}"#, 1, 0),
            (r#"{"retries":-3}"#, 1, 0),
            (r#"{"retries":99999999999,"duration":"1h2m3.5s"}"#, u32::MAX, 3_723_500),
            (r#"{"duration":"1ns"}"#, 1, 1),
            (r#"{"duration":"-1s"}"#, 1, 0),
        ] {
            let document = std::format!("{{\"containerSet\":{{\"retryStrategy\":{strategy}}}}}");
            assert_eq!(Template::parse(document.as_bytes()).unwrap().retry(), Retry { attempts, pause_ms }, "{strategy}");
        }
    }

    #[test]
    fn a_level_is_a_hint() {
        for (level, packing, is_odd) in [
            ("0", Packing::Level(0), false),
            ("9", Packing::Level(9), false),
            ("10", Packing::Level(9), true),
            ("999999999999999999999999", Packing::Level(9), true),
            ("-1", Packing::Default, false),
            ("-2", Packing::HuffmanOnly, false),
            ("-3", Packing::Default, true),
            ("1.5", Packing::Default, true),
            ("\"3\"", Packing::Default, true),
            ("null", Packing::Default, false),
        ] {
            let document = std::format!(r#"{{"x":{{"artifacts":[{{"path":"/a","archive":{{"tar":{{"compressionLevel":{level}}}}}}}]}}}}"#);
            let outputs = document.replace('x', "outputs");
            let artifact = Template::parse(outputs.as_bytes()).unwrap().output_artifacts().next().unwrap();
            assert_eq!((artifact.packing, artifact.odd_level.is_some()), (packing, is_odd), "{level}");
            let inputs = document.replace('x', "inputs");
            let artifact = Template::parse(inputs.as_bytes()).unwrap().input_artifacts().next().unwrap();
            assert_eq!((artifact.packing, artifact.odd_level.is_some()), (Packing::Default, false), "{level}");
        }
    }

    #[test]
    fn an_output_needs_only_a_path() {
        let document = br#"{"outputs":{"parameters":[{"valueFrom":{"path":"/p","default":1.50}},null,{"name":7,"valueFrom":{"path":"/q","default":false}},
            {"name":"r","valueFrom":{"path":""}},{"name":"s","valueFrom":{"path":"/s","default":{}}}],
            "artifacts":[{"path":"/a"},{"name":[],"path":"/b","archive":"tgz"},{"name":"c","path":""},null]}}"#;
        let template = Template::parse(document).unwrap();
        let parameters: Vec<_> = template.output_parameters().map(|p| (text(p.name), text(p.path), p.default.map(text))).collect();
        let row = |name: &str, path: &str, default: Option<&str>| (name.into(), path.into(), default.map(Into::into));
        assert_eq!(parameters, [row("", "/p", Some("1.50")), row("", "/q", Some("false")), row("s", "/s", None)]);
        let artifacts: Vec<_> = template.output_artifacts().map(|a| (text(a.name), text(a.path))).collect();
        assert_eq!(artifacts, [("".into(), "/a".into()), ("".into(), "/b".into())]);
    }

    #[test]
    fn wrong_types_are_named() {
        for (document, field) in [
            ("[]", "the template"),
            (r#"{"outputs":[]}"#, "outputs"),
            (r#"{"outputs":{"parameters":{}}}"#, "outputs.parameters"),
            (r#"{"outputs":{"parameters":[1]}}"#, "outputs.parameters[]"),
            (r#"{"outputs":{"parameters":[{"valueFrom":{"path":1}}]}}"#, "outputs.parameters[].valueFrom.path"),
            (r#"{"outputs":{"artifacts":[{"path":1}]}}"#, "outputs.artifacts[].path"),
            (r#"{"inputs":{"artifacts":[{"name":1}]}}"#, "inputs.artifacts[].name"),
            (r#"{"containerSet":{"containers":[{"name":"../x"}]}}"#, "containerSet.containers[].name"),
            (r#"{"containerSet":{"containers":[{"dependencies":[""]}]}}"#, "containerSet.containers[].dependencies[]"),
            (r#"{"containerSet":{"retryStrategy":{"retries":1.5}}}"#, "containerSet.retryStrategy.retries"),
            (r#"{"containerSet":{"retryStrategy":{"duration":"soon"}}}"#, "containerSet.retryStrategy.duration"),
            (r#"{"archiveLocation":{"archiveLogs":"yes"}}"#, "archiveLocation.archiveLogs"),
            (r#"{"sidecars":{}}"#, "sidecars"),
            (r#"{"container":{"volumeMounts":[{"mountPath":[]}]}}"#, "container.volumeMounts[].mountPath"),
        ] {
            match Template::parse(document.as_bytes()) {
                Err(TemplateError::Type { field: named, .. }) => assert_eq!(named, field),
                other => panic!("{document}: {other:?}"),
            }
        }
    }

    /// A template with `count` outputs, mounts, containers and sidecars, and a script of `script_bytes` bytes.
    fn large(count: usize, script_bytes: usize) -> String {
        let list = |of: &dyn Fn(usize) -> String| (0..count).map(of).collect::<Vec<_>>().join(",");
        let named = list(&|at| std::format!(r#"{{"name":"c{at}","dependencies":["c0","c1"]}}"#));
        let artifacts = list(&|at| std::format!(r#"{{"name":"a{at}","path":"/tmp/a{at}","archive":{{"tar":{{"compressionLevel":1}}}}}}"#));
        let parameters = list(&|at| std::format!(r#"{{"name":"p{at}","valueFrom":{{"path":"/tmp/p{at}","default":"d"}}}}"#));
        let mounts = list(&|at| std::format!(r#"{{"name":"m{at}","mountPath":"/mnt/{at}"}}"#));
        let script = "x\\n".repeat(script_bytes / 3);
        std::format!(
            r#"{{"script":{{"source":"{script}","volumeMounts":[{mounts}]}},"sidecars":[{named}],"inputs":{{"artifacts":[{artifacts}]}},
                "containerSet":{{"containers":[{named}]}},"outputs":{{"parameters":[{parameters}],"artifacts":[{artifacts}]}}}}"#
        )
    }

    #[test]
    #[cfg_attr(miri, ignore = "slow, minutes: an interpreter takes each byte")]
    fn the_check_and_each_list_are_walks_forward() {
        // Returns the bytes that all walks together visit, and how often they visit each byte of the document.
        let work = |count: usize| {
            let document = large(count, 60 * count);
            let (things, bytes) = visited(|| {
                let template = Template::parse(document.as_bytes()).unwrap();
                let outputs = template.output_parameters().count() + template.output_artifacts().count();
                outputs + template.input_artifacts().count() + template.mount_paths().count() + template.container_names().count()
            });
            assert_eq!(things, 5 * count);
            (bytes, bytes / document.len())
        };
        let (count, twice) = if cfg!(miri) { (10, 20) } else { (500, 1_000) };
        let ((bytes, each), (bytes_of_twice, each_of_twice)) = (work(count), work(twice));
        assert!(each < 12 && each_of_twice < 12, "each byte is looked at {each} and {each_of_twice} times");
        assert!(bytes_of_twice < bytes * 5 / 2, "{bytes} bytes, {bytes_of_twice} for twice as much");
    }

    #[test]
    fn looks_while_the_command_runs_do_not_read_the_script() {
        let document = large(3, if cfg!(miri) { 10_000 } else { 100_000 });
        let template = Template::parse(document.as_bytes()).unwrap();
        let ((), bytes) = visited(|| {
            assert!(template.is_sidecar(b"c2") && !template.is_sidecar(b"d"));
            assert_eq!(template.dependencies(b"c2").count(), 2);
            assert_eq!(template.container_names().count() + template.mount_paths().count(), 6);
        });
        assert!(bytes < 3_000, "{bytes}");
    }

    #[test]
    fn the_error_says_field_and_place() {
        for (document, want) in [
            (r#"{"outputs":{"parameters":{}}}"#, "outputs.parameters is not an array at byte 25"),
            (r#"{"outputs":{"artifacts":[{},{"path":1}]}}"#, "outputs.artifacts[1].path is not a string at byte 36"),
            (r#"{"outputs":{"artifacts":[{},null,2]}}"#, "outputs.artifacts[2] is not an object at byte 33"),
            (
                r#"{"containerSet":{"containers":[{"name":"a"},{"dependencies":["a","/"]}]}}"#,
                "containerSet.containers[1].dependencies[1] is not a container's name at byte 65",
            ),
            (r#"{"script":{"volumeMounts":[{"mountPath":3}]}}"#, "script.volumeMounts[0].mountPath is not a string at byte 40"),
            (
                r#"{"containerSet":{"retryStrategy":{"duration":"3000000h"}}}"#,
                "containerSet.retryStrategy.duration is not within 292 years at byte 45",
            ),
        ] {
            assert_eq!(std::format!("{}", Template::parse(document.as_bytes()).unwrap_err()), want);
        }
    }

    #[test]
    fn names_that_are_near() {
        for (name, known, changes) in [
            ("paramters", "parameters", 1),
            ("parametres", "parameters", 1),
            ("PATH", "path", 0),
            ("paht", "path", 1),
            ("pat", "path", 1),
            ("paths", "path", 1),
            ("vlaueForm", "valueFrom", 2),
            ("inputs", "outputs", 3),
            ("mode", "name", 3),
            ("", "tar", 3),
        ] {
            let is_near = |changes| is_near(name.as_bytes(), known.as_bytes(), changes);
            assert!(is_near(changes) && (changes == 0 || !is_near(changes - 1)), "{name} {known}");
        }
    }

    #[test]
    fn misspelt_fields_are_named() {
        let document = br#"{"output":{},"outputs":{"paramters":[],"parameters":[{},{"nmae":1,"valueForm":{},"valueFrom":{"Path":"/p"}}],
            "artifacts":[{"path":"/a","mode":420,"from":"x","gcs":{},"archive":{"tra":{}}}]},"steps":[],"initContainers":[],
            "container":{"volumeMounts":[{"mountpath":"/m","subPath":"x"}],"image":"x","args":[]},"sidecars":[{"naem":"x","env":[]}]}"#;
        let template = Template::parse(document).unwrap();
        let mut found = Vec::new();
        template.misspelt(&mut |misspelt| {
            let mut room = [0xa5; 256];
            let mut out = Writer::new(&mut room);
            misspelt.describe(&mut out);
            let text = String::from_utf8(out.finish().unwrap().to_vec()).unwrap();
            let (what, meant) = text.split_once("; ").unwrap();
            found.push(std::format!("{}{meant}", what.replace("unknown field ", "").split(" at byte").next().unwrap()));
        });
        assert_eq!(
            found,
            [
                "'output'is 'outputs' meant?",
                "outputs: 'paramters'is 'parameters' meant?",
                "outputs.parameters[1]: 'nmae'is 'name' meant?",
                "outputs.parameters[1]: 'valueForm'is 'valueFrom' meant?",
                "outputs.parameters[1].valueFrom: 'Path'is 'path' meant?",
                "outputs.artifacts[0].archive: 'tra'is 'tar' meant?",
                "container.volumeMounts[0]: 'mountpath'is 'mountPath' meant?",
                "sidecars[0]: 'naem'is 'name' meant?",
            ]
        );
    }

    #[test]
    fn containers_that_wait_for_ever() {
        let check = |set: &str| {
            let document = std::format!("{{\"containerSet\":{{\"containers\":[{set}]}}}}");
            let template = Template::parse(document.as_bytes()).unwrap();
            let mut nodes: Vec<_> = template.nodes().collect();
            nodes.sort();
            match check_order(&mut nodes) {
                Ok(()) => String::from("fine"),
                Err(OrderError::Unknown { waiting, name }) => {
                    std::format!("{} {}?", String::from_utf8_lossy(nodes[waiting].name()), text(name))
                }
                Err(OrderError::Cycle { first, last }) => {
                    let mut names = String::from_utf8_lossy(nodes[first].name()).into_owned();
                    let mut at = last;
                    while at != first {
                        names = std::format!("{} {names}", String::from_utf8_lossy(nodes[at].name()));
                        at = nodes[at].waited_for_by();
                    }
                    std::format!("{} {names}", String::from_utf8_lossy(nodes[first].name()))
                }
            }
        };
        let container = |name: &str, dependencies: &str| std::format!("{{\"name\":\"{name}\",\"dependencies\":[{dependencies}]}}");
        for (rows, want) in [
            (&[][..], "fine"),
            (&[("a", ""), ("c", r#""a","b""#), ("b", r#""a""#), ("d", r#""c","a","b""#)], "fine"),
            (&[("a", r#""a""#)], "a a"),
            (&[("x", r#""a""#), ("c", r#""a""#), ("a", r#""b""#), ("b", r#""c""#)], "a b c a"),
            (&[("a", ""), ("b", r#""a","z""#)], "b z?"),
            (&[("d", r#""b""#), ("b", r#""e""#), ("e", r#""d""#), ("a", r#""d""#)], "d b e d"),
        ] {
            let set: Vec<_> = rows.iter().map(|(name, dependencies)| container(name, dependencies)).collect();
            assert_eq!(check(&set.join(",")), want);
        }
    }
}
