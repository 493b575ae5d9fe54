import { Button, Input, Select, Space } from "antd";
import { useState } from "react";
import type { Schemas } from "../../api/client";
import { useT } from "../../app/i18n";
import { OPERATORS, type Condition, type Operator } from "./query";

interface Props {
  fields: Schemas["FieldPage"];
  add: (condition: Condition) => void;
}

/** One condition by choosing: it becomes text in the query, where it can be read and changed. */
export function FilterBuilder({ fields, add }: Props) {
  const t = useT();
  const [field, setField] = useState<string | null>(null);
  const [operator, setOperator] = useState<Operator>(":");
  const [value, setValue] = useState("");
  const isComplete = field !== null && value.trim() !== "";
  const submit = () => {
    if (field !== null && isComplete) add({ field, operator, value: value.trim() });
    setValue("");
  };
  const options = [
    { label: t("bar.fields"), options: fields.fields.map((name) => ({ value: name, label: name })) },
    { label: t("bar.metrics"), options: fields.metrics.map((name) => ({ value: name, label: name })) },
    { label: t("bar.settings"), options: fields.settings.map((name) => ({ value: name, label: name })) },
  ];
  return (
    <Space>
      <Select showSearch aria-label={t("filter.field")} placeholder={t("filter.field")} data-testid="filter-field" value={field} onChange={setField} options={options} style={{ width: 240 }} />
      <Select aria-label={t("filter.operator")} value={operator} onChange={setOperator} options={OPERATORS.map((name) => ({ value: name, label: t(`filter.${NAMES[name]}`) }))} style={{ width: 130 }} />
      <Input aria-label={t("filter.value")} placeholder={t("filter.value")} data-testid="filter-value" value={value} onChange={(event) => setValue(event.target.value)} onPressEnter={submit} style={{ width: 160 }} />
      <Button type="primary" disabled={!isComplete} onClick={submit} data-testid="filter-add">{t("filter.add")}</Button>
    </Space>
  );
}

const NAMES = { ":": "is", "!=": "isNot", "~": "contains", ">": "above", ">=": "atLeast", "<": "below", "<=": "atMost" } as const;
