import { useQuery } from "@tanstack/react-query";
import { Alert, Layout, Menu, Modal, Segmented, Select, Spin } from "antd";
import { lazy, Suspense, useState } from "react";
import { Link, Navigate, Route, Routes, useLocation, useNavigate } from "react-router";
import { api, ApiError, take } from "../api/client";
import { LoginPage } from "../modules/login/LoginPage";
import { ErrorCard } from "../ui/ErrorCard";
import { useKeys } from "./keys";
import type { Language } from "./i18n";
import { useT } from "./i18n";
import type { Theme } from "./preferences";
import { StaleBanner } from "./StaleBanner";

const RunsPage = lazy(() => import("../modules/jobs/RunsPage"));
const RunPage = lazy(() => import("../modules/jobs/RunPage"));
const LaunchPage = lazy(() => import("../modules/jobs/LaunchPage"));
const DatasetsPage = lazy(() => import("../modules/datasets/DatasetsPage"));
const EvaluatePage = lazy(() => import("../modules/evaluation/EvaluatePage"));

interface Props {
  language: Language;
  setLanguage: (value: Language) => void;
  theme: Theme;
  setTheme: (value: Theme) => void;
}

const WORKER_POLL_MS = 10_000;

export function Shell(props: Props) {
  const t = useT();
  const location = useLocation();
  const navigate = useNavigate();
  const [isHelpOpen, setHelpOpen] = useState(false);
  useKeys({ "g r": () => void navigate("/runs"), "?": () => setHelpOpen(true), "/": focusSearch });
  const isLogin = location.pathname === "/login";
  const server = useQuery({
    queryKey: ["server"],
    queryFn: () => take(api.GET("/api/server")),
    refetchInterval: WORKER_POLL_MS,
    enabled: !isLogin,
  });
  const isStranger = server.error instanceof ApiError && server.error.status === 401;
  const section = `/${location.pathname.split("/")[1] ?? ""}`;
  const sections = (["runs", "launch", "datasets", "evaluate"] as const).map((name) => ({
    key: `/${name}`,
    label: <Link to={`/${name}`}>{t(`nav.${name}`)}</Link>,
  }));
  return (
    <Layout style={{ minHeight: "100vh", background: "transparent" }}>
      <Layout.Header style={{ display: "flex", alignItems: "center", gap: 8, padding: "0 20px", height: 48, background: "transparent" }}>
        <Link to="/runs" className="brand">
          <img src="/favicon.svg" alt="" width={22} height={22} /> Finery
        </Link>
        <Menu mode="horizontal" items={sections} selectedKeys={[section]} style={{ flex: 1, background: "transparent", lineHeight: "46px" }} />
        <Select
          aria-label={t("language.label")}
          value={props.language}
          onChange={props.setLanguage}
          data-testid="language"
          options={[{ value: "en", label: "English" }, { value: "zh", label: "中文" }]}
        />
        <Segmented
          aria-label={t("theme.label")}
          value={props.theme}
          onChange={props.setTheme}
          options={(["light", "dark", "system"] as const).map((value) => ({ value, label: t(`theme.${value}`) }))}
        />
      </Layout.Header>
      <StaleBanner />
      {server.data && !server.data.worker.is_alive && <Alert banner type="warning" title={t("worker.dead")} />}
      <Layout.Content>
        <Suspense fallback={<Spin style={{ margin: 48 }} />}>
          {isLogin || isStranger ? (
            <LoginPage />
          ) : server.error && !server.data ? (
            <div className="page">
              <ErrorCard error={server.error} retry={() => void server.refetch()} />
            </div>
          ) : (
            <Routes>
              <Route path="/runs" element={<RunsPage />} />
              <Route path="/runs/:job" element={<RunPage />} />
              <Route path="/launch" element={<LaunchPage />} />
              <Route path="/datasets" element={<DatasetsPage />} />
              <Route path="/datasets/:ref" element={<DatasetsPage />} />
              <Route path="/evaluate" element={<EvaluatePage />} />
              <Route path="*" element={<Navigate to="/runs" replace />} />
            </Routes>
          )}
        </Suspense>
      </Layout.Content>
      <Modal open={isHelpOpen} onCancel={() => setHelpOpen(false)} footer={null} title={t("help.title")}>
        <p><kbd>/</kbd> {t("help.search")}</p>
        <p><kbd>j</kbd> <kbd>k</kbd> {t("help.move")}</p>
        <p><kbd>g</kbd> <kbd>r</kbd> {t("help.runs")}</p>
        <p><kbd>?</kbd> {t("help.help")}</p>
      </Modal>
    </Layout>
  );
}

function focusSearch(): void {
  document.querySelector<HTMLInputElement>("[data-search] input, input[data-search]")?.focus();
}
