// Pages through the whole oplog with the vendor's own client, and reads what else it offers. Prints JSON.
const { V4BackendClient } = require('@journeyapps-labs/client-backend-v4');
const { createNodeNetworkClient, createWebNetworkClient } = require('@journeyapps-labs/common-sdk');

async function main() {
  const [root, account_id, password] = process.argv.slice(2);
  const login = Buffer.from(`${account_id}:${password}`).toString('base64');
  const headers = { Authorization: `Basic ${login}` };
  const make = createNodeNetworkClient || createWebNetworkClient;
  const client = new V4BackendClient({ account_id, endpoint: root, client: make({ headers: () => headers }) });
  const sequences = [];
  let pages = 0;
  for await (const page of client.getOpLog.paginate({ limit: 1000 })) {
    pages += 1;
    for (const entry of page.entries) sequences.push(entry.sequence_id);
  }
  const schema = await client.getSchema();
  const info = await client.getInfo();
  const indexes = await client.getIndexes();
  console.log(JSON.stringify({ pages, sequences, schema, info, indexes }));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
