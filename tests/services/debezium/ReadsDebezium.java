import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.debezium.data.Envelope;
import io.debezium.serde.DebeziumSerdes;
import io.debezium.transforms.ExtractNewRecordState;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.connect.data.Schema;
import org.apache.kafka.connect.data.SchemaBuilder;
import org.apache.kafka.connect.data.Struct;
import org.apache.kafka.connect.header.Header;
import org.apache.kafka.connect.json.JsonConverter;
import org.apache.kafka.connect.sink.SinkRecord;

/**
 * Reads our payloads, one a line, as Debezium's users do, with Debezium's and Kafka Connect's own classes; for each a line:
 *
 *   serde    what Debezium's serde for Kafka Streams makes of `after` and of the whole envelope
 *   row      what its ExtractNewRecordState makes of the envelope that Kafka Connect's JSON converter read, put into
 *            Debezium's envelope schema: a field of ours that this does not know, or of another type, is an error.
 *            Of a delete there is none: no record, or one without a value
 */
public class ReadsDebezium {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final Schema ROW = SchemaBuilder.struct().name("shop.row").optional()
            .field("id", Schema.STRING_SCHEMA).field("type", Schema.STRING_SCHEMA).build();
    private static final Schema SOURCE = SchemaBuilder.struct().name("shop.source")
            .field("connector", Schema.STRING_SCHEMA).field("name", Schema.STRING_SCHEMA)
            .field("ts_ms", Schema.OPTIONAL_INT64_SCHEMA).field("snapshot", Schema.OPTIONAL_STRING_SCHEMA)
            .field("db", Schema.STRING_SCHEMA).field("table", Schema.STRING_SCHEMA)
            .field("sequence", Schema.OPTIONAL_STRING_SCHEMA)
            .field("operation", Schema.STRING_SCHEMA)  // ours: `op` knows no other than c, u, d
            .build();
    private static final Schema ENVELOPE = Envelope.defineSchema().withName("shop.row.Envelope")
            .withRecord(ROW).withSource(SOURCE).build().schema();

    public static void main(String[] args) throws Exception {
        Serde<JsonNode> afters = DebeziumSerdes.payloadJson(JsonNode.class);
        afters.configure(Map.of("from.field", "after"), false);
        Serde<JsonNode> envelopes = DebeziumSerdes.payloadJson(JsonNode.class);
        envelopes.configure(Map.of(), false);
        JsonConverter converter = new JsonConverter();
        converter.configure(Map.of("schemas.enable", "false"), false);
        ExtractNewRecordState<SinkRecord> extract = new ExtractNewRecordState<>();
        extract.configure(Map.of("add.headers", "op,source.sequence"));
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line; (line = lines.readLine()) != null;) {
            byte[] payload = line.getBytes(StandardCharsets.UTF_8);
            ObjectNode said = JSON.createObjectNode();
            said.set("after", afters.deserializer().deserialize("topic", payload));
            said.set("envelope", envelopes.deserializer().deserialize("topic", payload));
            Struct envelope = envelope((Map<?, ?>) converter.toConnectData("topic", payload).value());
            SinkRecord row = extract.apply(new SinkRecord("topic", 0, null, "key", ENVELOPE, envelope, 0));
            boolean none = row == null || row.value() == null;
            said.put("row", none ? null : ((Struct) row.value()).getString("id"));
            if (!none) {
                for (Header header : row.headers()) {
                    said.put(header.key(), String.valueOf(header.value()));
                }
            }
            System.out.println(JSON.writeValueAsString(said));
        }
    }

    private static Struct envelope(Map<?, ?> read) {
        Struct envelope = new Struct(ENVELOPE);
        Envelope.Operation operation = Envelope.Operation.forCode((String) read.get("op"));
        if (operation == null) {
            throw new IllegalArgumentException("unknown op " + read.get("op"));
        }
        for (Map.Entry<?, ?> member : read.entrySet()) {
            String name = (String) member.getKey();
            switch (name) {
                case "before", "after" -> envelope.put(name, row((Map<?, ?>) member.getValue()));
                case "source" -> envelope.put(name, source((Map<?, ?>) member.getValue()));
                default -> envelope.put(name, member.getValue());
            }
        }
        envelope.validate();
        return envelope;
    }

    private static Struct row(Map<?, ?> read) {
        return read == null ? null : new Struct(ROW).put("id", read.get("id")).put("type", read.get("type"));
    }

    private static Struct source(Map<?, ?> read) {
        Struct source = new Struct(SOURCE);
        read.forEach((name, value) -> source.put((String) name, value));
        source.validate();
        return source;
    }
}
