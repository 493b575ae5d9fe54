import { Form, Input, InputNumber, Select, Switch, Tooltip } from "antd";

export interface FieldSchema {
  type?: string;
  title?: string;
  description?: string;
  default?: unknown;
  enum?: string[];
  minimum?: number;
  maximum?: number;
  anyOf?: FieldSchema[];
  items?: FieldSchema;
}

export interface ObjectSchema {
  properties?: Record<string, FieldSchema>;
  required?: string[];
}

interface Props {
  schema: ObjectSchema;
  values: Record<string, unknown>;
  change: (values: Record<string, unknown>) => void;
}

/** A form drawn from JSON Schema: the same sentence is docstring, tooltip and API description. */
export function SchemaForm({ schema, values, change }: Props) {
  const set = (name: string, value: unknown) => {
    const others = Object.entries(values).filter(([key]) => key !== name);
    const isEmpty = value === null || value === undefined || value === "";
    change(Object.fromEntries(isEmpty ? others : [...others, [name, value]]));
  };
  return (
    <>
      {Object.entries(schema.properties ?? {}).map(([name, field]) => (
        <Form.Item
          key={name}
          label={<Tooltip title={field.description}><span>{name}</span></Tooltip>}
          required={schema.required?.includes(name)}
          help={name in values ? undefined : field.default !== undefined ? `= ${JSON.stringify(field.default)}` : undefined}
        >
          <Field field={narrowed(field)} value={values[name]} set={(value) => set(name, value)} />
        </Form.Item>
      ))}
    </>
  );
}

function narrowed(field: FieldSchema): FieldSchema {
  const real = field.anyOf?.find((option) => option.type !== "null");
  return real ? { ...real, default: field.default } : field;
}

function Field({ field, value, set }: { field: FieldSchema; value: unknown; set: (value: unknown) => void }) {
  if (field.enum) {
    return <Select allowClear value={value as string | undefined} onChange={set} options={field.enum.map((option) => ({ value: option, label: option }))} />;
  }
  if (field.type === "boolean") return <Switch checked={(value ?? field.default) === true} onChange={set} />;
  if (field.type === "integer" || field.type === "number") {
    return <InputNumber style={{ width: "100%" }} min={field.minimum} max={field.maximum} value={value as number | undefined} onChange={set} />;
  }
  if (field.type === "array") {
    return <Select mode="tags" value={(value as string[] | undefined) ?? []} onChange={(list: string[]) => set(list.length ? list : undefined)} options={(field.items?.enum ?? []).map((option) => ({ value: option, label: option }))} />;
  }
  return <Input value={(value as string | undefined) ?? ""} onChange={(event) => set(event.target.value)} />;
}
