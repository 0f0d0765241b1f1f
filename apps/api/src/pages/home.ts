import { page } from './page.js';

/** What a person sees at the address of the service. */
export function homeHtml(origin: string, version: string): string {
  const safe = origin.replace(/[^\w:/.\-[\]]/g, '');
  return page(
    'Octet',
    `<h1>Octet <small>${version}</small></h1>
<p>A float ONNX model and a labelled dataset in, an int8 model and a report of what the conversion cost out.</p>
<h2>Try it</h2>
<pre>curl ${safe}/v1/jobs \\
  -F model=@model.onnx -F dataset=@train.npz \\
  -F 'config={"training":{"epochs":1}}'</pre>
<p>The answer holds the id of the job:</p>
<pre>curl '${safe}/v1/jobs/JOB?wait=30'
curl -OJ ${safe}/v1/jobs/JOB/model
curl ${safe}/v1/jobs/JOB/accuracy-diff.md</pre>
<h2>What is here</h2>
<table>
<tr><td><a href="/docs">/docs</a></td><td>every path, to read and to try</td></tr>
<tr><td><a href="/docs/errors">/docs/errors</a></td><td>every error and what to do about it</td></tr>
<tr><td><a href="/openapi.json">/openapi.json</a></td><td>OpenAPI 3.1</td></tr>
<tr><td><a href="/v1/jobs">/v1/jobs</a></td><td>jobs</td></tr>
<tr><td><a href="/v1/models">/v1/models</a></td><td>models</td></tr>
<tr><td><a href="/v1/datasets">/v1/datasets</a></td><td>datasets</td></tr>
<tr><td><a href="/readyz">/readyz</a></td><td>whether database and queue answer</td></tr>
</table>`,
  );
}
