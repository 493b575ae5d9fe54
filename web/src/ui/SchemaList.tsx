import { CloseOutlined, PlusOutlined } from "@ant-design/icons";
import { Button } from "antd";
import { useT } from "../app/i18n";
import { Nested } from "./SchemaField";
import { fieldOf, firstValue, type Path, type Schema } from "./schema";
import { useForm } from "./schemaContext";

/** A list of objects: each with its fields, one more, one less. */
export function SchemaList({ items, value, path }: { items: Schema; value: unknown; path: Path }) {
  const t = useT();
  const { root, change } = useForm();
  const list: unknown[] = Array.isArray(value) ? value : [];
  const field = fieldOf(items, root);
  const add = () => {
    const first = firstValue(field, root) ?? {};
    change([list.length ? { path: [...path, list.length], value: first } : { path, value: [first] }]);
  };
  return (
    <div className="schema-list">
      {list.map((item, index) => (
        <div key={index} className="schema-item" data-testid={`item-${path.join(".")}.${index}`}>
          <div className="schema-value"><Nested field={field} value={item} path={[...path, index]} /></div>
          <Button size="small" type="text" icon={<CloseOutlined />} aria-label={t("form.remove", { n: index + 1 })} onClick={() => change([{ path: [...path, index], value: undefined }])} />
        </div>
      ))}
      <Button size="small" type="dashed" icon={<PlusOutlined />} onClick={add} data-testid={`add-${path.join(".")}`}>{t("form.add")}</Button>
    </div>
  );
}
