"use strict";
const dark = matchMedia("(prefers-color-scheme: dark)"); // Swagger UI has its dark colours under a class
const colour = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", colour);
colour();
// validatorUrl: Swagger UI would ask a server elsewhere whether the description is valid.
SwaggerUIBundle({ url: "openapi.json", dom_id: "#docs", validatorUrl: null, deepLinking: true, tryItOutEnabled: true });
