// Shows openapi.json as text.

"use strict";

function make(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const resolve = (api, schema) =>
  schema?.$ref ? api.components.schemas[schema.$ref.split("/").pop()] : schema;

function typeOf(schema) {
  if (schema.anyOf) return schema.anyOf.map(typeOf).join(" or ");
  if (schema.enum) return schema.enum.join(" or ");
  return schema.type ?? "any";
}

function table(caption, rows) {
  const head = ["name", "type", "default", "meaning"].map((text) => make("th", { scope: "col" }, text));
  const body = rows.map(([name, ...cells]) =>
    make("tr", {}, make("th", { scope: "row" }, make("code", {}, name)),
      ...cells.map((text) => make("td", {}, text))));
  const title = make("caption", { class: "visually-hidden" }, caption);
  return make("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": caption },
    make("table", {}, title, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...body)));
}

// Text with code between backticks.
function prose(text) {
  return text.split("`").map((part, number) => (number % 2 ? make("code", {}, part) : part));
}

function fieldRow(name, schema, description) {
  const usual = "default" in schema ? JSON.stringify(schema.default) : "";
  return [name, typeOf(schema), usual, description ?? schema.description ?? ""];
}

function operation(api, path, method, values) {
  const title = `${method.toUpperCase()} ${path}`;
  const parts = [make("h3", {}, make("span", { class: "method" }, method.toUpperCase()), make("code", {}, path))];
  if (values.description) parts.push(make("p", {}, ...prose(values.description)));
  const parameters = (values.parameters ?? []).map((each) =>
    fieldRow(each.name, each.schema, [each.in === "path" ? "in the path." : "", each.description ?? ""].join(" ")));
  if (parameters.length) parts.push(table(`Parameters of ${title}`, parameters));
  const json = resolve(api, values.requestBody?.content["application/json"]?.schema);
  if (json?.properties) {
    parts.push(make("p", {}, "Body, JSON:"));
    parts.push(table(`Body of ${title}`, Object.entries(json.properties).map(([name, schema]) => fieldRow(name, schema))));
  } else if (values.requestBody) {
    parts.push(make("p", {}, `Body: ${Object.keys(values.requestBody.content).join(" or ")}`));
  }
  return parts;
}

async function show() {
  const base = new URL(".", location.href).href.replace(/\/$/, "");
  for (const code of document.querySelectorAll("code.base")) {
    code.textContent = code.textContent.replaceAll("BASE", base);
  }
  const place = document.getElementById("operations");
  const answer = await fetch("openapi.json");
  const api = await answer.json();
  const sections = new Map();
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, values] of Object.entries(methods)) {
      const tag = values.tags?.[0] ?? "other";
      if (!sections.has(tag)) {
        const name = tag[0].toUpperCase() + tag.slice(1);
        sections.set(tag, make("section", { class: "card", "aria-labelledby": `tag-${tag}` },
          make("h2", { id: `tag-${tag}` }, name)));
      }
      sections.get(tag).append(...operation(api, path, method, values));
    }
  }
  place.replaceChildren(...sections.values());
}

show().catch((error) => {
  document.getElementById("operations").textContent = `openapi.json cannot be loaded (${error.message}).`;
});
