import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

// The page is served by the dashboard's own web server: everything it needs is in the bundle, and nothing is inlined,
// because the content security policy allows files of this origin only.
export default defineConfig({
  plugins: [react()],
  build: {
    outDir: "../static",
    emptyOutDir: true,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    target: "es2022",
    license: { fileName: "assets/licenses.md" },
  },
  server: {
    host: "127.0.0.1",
    proxy: { "/api": process.env["SIGHTLINE_DASHBOARD_URL"] ?? "http://127.0.0.1:8080" },
  },
  test: {
    environment: "jsdom",
    include: ["tests/**/*.test.{ts,tsx}"],
    restoreMocks: true,
  },
});
