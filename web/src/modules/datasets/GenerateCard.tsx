import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Button, Card, Form, Input, Select } from "antd";
import { useState } from "react";
import { useNavigate } from "react-router";
import { api, take } from "../../api/client";
import { renew } from "../../api/renew";
import { useT } from "../../app/i18n";
import { ErrorCard } from "../../ui/ErrorCard";
import { SchemaForm, type ObjectSchema } from "../../ui/SchemaForm";

/** Makes a dataset with a generator; the form comes from the generator's own parameters. */
export function GenerateCard() {
  const t = useT();
  const navigate = useNavigate();
  const queries = useQueryClient();
  const generators = useQuery({ queryKey: ["generators"], queryFn: () => take(api.GET("/api/datasets/generators")) });
  const [generator, setGenerator] = useState("arithmetic");
  const [name, setName] = useState("sums");
  const [params, setParams] = useState<Record<string, unknown>>({});
  const make = useMutation({
    mutationFn: () => take(api.POST("/api/datasets/generate", { body: { generator, name, params } })),
    onSuccess: async (made) => {
      await renew(queries, ["datasets"]);
      void navigate(`/datasets/${made.ref}`);
    },
  });
  const chosen = generators.data?.generators.find((entry) => entry.name === generator);
  return (
    <Card size="small" title={t("data.generate")}>
      <Form size="small" colon={false} labelAlign="left" labelCol={{ flex: "186px" }} onFinish={() => make.mutate()}>
        <Form.Item label={t("data.generator")} htmlFor="generator" help={chosen?.summary}>
          <Select
            id="generator"
            value={generator}
            onChange={(value) => {
              setGenerator(value);
              setParams({});
            }}
            options={(generators.data?.generators ?? []).map((entry) => ({ value: entry.name, label: entry.name }))}
          />
        </Form.Item>
        <Form.Item label={t("data.name")} htmlFor="generate-name" required>
          <Input id="generate-name" value={name} onChange={(event) => setName(event.target.value)} data-testid="generate-name" />
        </Form.Item>
        {chosen && <SchemaForm schema={chosen.params_schema as ObjectSchema} values={params} change={setParams} />}
        {make.error && <ErrorCard error={make.error} />}
        <Button type="primary" htmlType="submit" loading={make.isPending} data-testid="generate-submit">{t("data.generate")}</Button>
      </Form>
    </Card>
  );
}
