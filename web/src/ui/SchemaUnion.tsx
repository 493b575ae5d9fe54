import { Select } from "antd";
import { SchemaFields } from "./SchemaFields";
import { isObject, memberOf, switched, type Field, type Path } from "./schema";
import { useForm } from "./schemaContext";

interface Props {
  field: Field;
  value: unknown;
  path: Path;
  /** Fields that are shown elsewhere. */
  without?: string[];
}

/** One of several kinds of object: what it is, and the fields that it then has. */
export function SchemaUnion({ field, value, path, without = [] }: Props) {
  const { root } = useForm();
  if (field.kind !== "union") return null;
  const tag = isObject(value) ? value[field.tag] : undefined;
  const member = memberOf(field.schema, root, tag);
  return (
    <>
      <SchemaTag field={field} value={value} path={path} />
      {member && <SchemaFields schema={member} value={value} path={path} without={[field.tag, ...without]} />}
    </>
  );
}

/** The choice of the kind alone. What another kind does not have goes with the change. */
export function SchemaTag({ field, value, path, without = [] }: Props) {
  const { root, change } = useForm();
  if (field.kind !== "union") return null;
  const tag = isObject(value) ? value[field.tag] : undefined;
  const dotted = [...path, field.tag].join(".");
  return (
    <Select
      size="small"
      value={tag as string | undefined}
      aria-label={dotted}
      data-testid={`field-${dotted}`}
      style={{ width: "100%" }}
      virtual={false}
      listHeight={480}
      popupMatchSelectWidth={440}
      onChange={(chosen: string) => change(switched(field.schema, root, value, chosen, path))}
      options={field.options.filter((name) => !without.includes(name)).map((name) => ({ value: name, label: <Option name={name} description={memberOf(field.schema, root, name)?.description} /> }))}
      optionRender={(option) => option.label}
      labelRender={({ value: name }) => name}
    />
  );
}

function Option({ name, description }: { name: string; description?: string }) {
  const sentence = description?.split(/(?<=\.)\s/)[0];
  return (
    <div className="schema-option">
      <span>{name}</span>
      {sentence && <small>{sentence}</small>}
    </div>
  );
}
