import { useQueryClient } from "@tanstack/react-query";
import { Card, Typography } from "antd";
import { useEffect, useRef, useState } from "react";
import { useNavigate } from "react-router";
import { api, take } from "../../api/client";
import { useT } from "../../app/i18n";

/** Exchanges the code of a login link; without one, says how to get it. The code never stays in the address. */
export function LoginPage() {
  const t = useT();
  const navigate = useNavigate();
  const queries = useQueryClient();
  const [phase, setPhase] = useState<"ask" | "busy" | "failed">("ask");
  const isUsed = useRef(false);
  useEffect(() => {
    const code = new URLSearchParams(window.location.hash.slice(1)).get("code");
    if (!code || isUsed.current) return;
    isUsed.current = true;
    window.history.replaceState(null, "", "/login");
    setPhase("busy");
    take(api.POST("/api/login", { body: { code } }))
      .then(() => queries.invalidateQueries())
      .then(() => navigate("/", { replace: true }))
      .catch(() => setPhase("failed"));
  }, [navigate, queries]);
  return (
    <div className="page" style={{ maxWidth: 560 }} data-testid="login-required">
      <Card title={t("login.title")}>
        {phase === "busy" ? (
          t("login.busy")
        ) : (
          <>
            {phase === "failed" && <Typography.Paragraph type="danger">{t("login.failed")}</Typography.Paragraph>}
            <Typography.Paragraph>{t("login.why")}</Typography.Paragraph>
            <Typography.Paragraph>{t("login.how")}</Typography.Paragraph>
            <Typography.Paragraph copyable={{ text: "finery login-link" }}>
              <code>finery login-link</code>
            </Typography.Paragraph>
          </>
        )}
      </Card>
    </div>
  );
}
