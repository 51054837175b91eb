import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { BrowserRouter } from "react-router";
import { App } from "./app";
import { I18nProvider } from "./i18n";
import { LiveProvider } from "./live/hooks";
import { ReviewProvider } from "./review/hooks";
import "./theme/tokens.css";
import "./theme/base.css";

const root = document.getElementById("root");
if (!root) throw new Error("index.html must hold #root");

createRoot(root).render(
  <StrictMode>
    <I18nProvider>
      <LiveProvider>
        <ReviewProvider>
          <BrowserRouter>
            <App />
          </BrowserRouter>
        </ReviewProvider>
      </LiveProvider>
    </I18nProvider>
  </StrictMode>,
);
