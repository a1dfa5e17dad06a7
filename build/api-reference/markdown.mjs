// Renders the messages, enums and methods of a FileDescriptorSet, with their comments, as Markdown.

/** Names of the field types of google.protobuf.FieldDescriptorProto that the contract may use. */
const SCALARS = { 3: 'int64', 5: 'int32', 8: 'bool', 9: 'string', 12: 'bytes', 13: 'uint32' };
const MESSAGE = 11;
const ENUM = 14;
const REPEATED = 3;

/** Returns every service, message and enum of the files, with its comment, in the order of the files. */
export function describe(files) {
  const services = [];
  const types = [];
  for (const file of files) {
    const comments = new Map(
      file.sourceCodeInfo.location.map(({ path, leadingComments }) => [path.join('.'), clean(leadingComments)]),
    );
    const commentOf = (...path) => comments.get(path.join('.')) ?? '';
    for (const [index, service] of file.service.entries()) {
      const methods = service.method.map((method, at) => ({
        name: method.name,
        comment: commentOf(6, index, 2, at),
        request: shortName(method.inputType),
        response: shortName(method.outputType),
      }));
      services.push({ name: `${file.package}.${service.name}`, comment: commentOf(6, index), methods });
    }
    const addEnum = (type, prefix, ...path) =>
      types.push({
        name: `${prefix}${type.name}`,
        comment: commentOf(...path),
        values: type.value.map(({ name, number }, at) => ({ name, number, comment: commentOf(...path, 2, at) })),
      });
    for (const [index, type] of file.enumType.entries()) addEnum(type, '', 5, index);
    for (const [index, type] of file.messageType.entries()) {
      types.push({
        name: type.name,
        comment: commentOf(4, index),
        fields: type.field.map((field, at) => ({
          name: field.name,
          number: field.number,
          type: typeOf(field),
          comment: commentOf(4, index, 2, at),
        })),
      });
      for (const [at, nested] of type.enumType.entries()) addEnum(nested, `${type.name}.`, 4, index, 4, at);
    }
  }
  return { services, types };
}

export function typeSection({ name, comment, fields, values }) {
  const rows = fields
    ? fields.map((field) => `| \`${field.name}\` = ${field.number} | ${field.type} | ${cell(field.comment)} |`)
    : values.map((value) => `| \`${value.name}\` = ${value.number} | ${cell(value.comment)} |`);
  const head = fields
    ? ['| field | type | meaning |', '| --- | --- | --- |']
    : ['| value | meaning |', '| --- | --- |'];
  return [`### ${name}`, '', comment, ...(rows.length > 0 ? ['', ...head, ...rows] : []), ''].join('\n');
}

export function table(head, rows) {
  return [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

/** Returns a link to the section of one of our types, or the name of a google.protobuf type. */
export function link(name) {
  return name.startsWith('google.') ? name : `[${name}](#${name.toLowerCase().replaceAll('.', '')})`;
}

function typeOf({ type, typeName, label }) {
  const name = type === MESSAGE || type === ENUM ? link(shortName(typeName)) : SCALARS[type];
  if (!name) throw new Error(`SCALARS has no name for field type ${type}`);
  return label === REPEATED ? `repeated ${name}` : name;
}

const shortName = (name) => name.replace(/^\./, '').replace(/^aqm\.coin\.v1\./, '');

/** Removes the space after the slashes and keeps the lines. */
const clean = (comment) => comment.replace(/^ /gm, '').trimEnd();

/** Joins the lines of a comment for a table cell. Paragraphs stay apart. */
const cell = (comment) => comment.replaceAll('\n\n', '<br><br>').replaceAll('\n', ' ').replaceAll('|', '\\|');
