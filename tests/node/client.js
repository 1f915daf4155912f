// Calls of a client that is not built on gRPC's C core: reads what to ask from standard input, as JSON, and writes what
// came of it to standard output. It decides nothing and expects nothing.
//
// {protos, address, tls: {authority, certificate, key} or nothing,
//  calls: [{service, method, requests: […], take: how many messages of a stream}]}
"use strict";

const fs = require("node:fs");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const CALL_WITHIN = 10_000;
const FILES = ["esa/enforcement/v1/enforcement_service.proto", "grpc/health/v1/health.proto"];

const asked = JSON.parse(fs.readFileSync(0, "utf8"));
const names = { keepCase: true, longs: String, enums: String, defaults: true, oneofs: true };
const options = { includeDirs: [asked.protos], ...names };
const packages = grpc.loadPackageDefinition(loader.loadSync(FILES, options));

function credentials(tls) {
  if (!tls) return grpc.credentials.createInsecure();
  const read = (path) => (path ? fs.readFileSync(path) : null);
  return grpc.credentials.createSsl(read(tls.authority), read(tls.key), read(tls.certificate));
}

// Resolves to the messages that came and how the call ended, as far as it was heard.
function ask({ service, method, requests, take }) {
  const Client = service.split(".").reduce((found, word) => found[word], packages);
  const client = new Client(asked.address, credentials(asked.tls), { "grpc.enable_http_proxy": 0 });
  const { requestStream, responseStream } = Client.service[method];
  const within = { deadline: Date.now() + CALL_WITHIN };
  return new Promise((resolve) => {
    const messages = [];
    const end = (status) => {
      const details = status.metadata?.get("grpc-status-details-bin")[0]?.toString("base64");
      client.close();
      resolve({ messages, code: status.code, message: status.details, details });
    };
    if (!requestStream && !responseStream) {
      client[method](requests[0], new grpc.Metadata(), within, (error, message) => {
        if (message) messages.push(message);
        end(error ?? { code: grpc.status.OK });
      });
      return;
    }
    const call = requestStream ? client[method](within) : client[method](requests[0], within);
    call.on("data", (message) => {
      if (messages.push(message) === take) call.cancel();
    });
    // The status says the same.
    call.on("error", () => {});
    call.on("status", end);
    if (requestStream) {
      for (const request of requests) call.write(request);
      call.end();
    }
  });
}

Promise.all(asked.calls.map(ask)).then((outcomes) => process.stdout.write(JSON.stringify(outcomes)));
