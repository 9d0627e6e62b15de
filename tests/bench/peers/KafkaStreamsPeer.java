import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/**
 * The stage's standard work in Kafka Streams: decode, range check, slope and offset, ten-minute windows, exactly once.
 * Avro is read and written by hand, which is faster than its library; state is one record per device, cached, in
 * memory with a changelog. Arguments: broker, name, commit interval in ms, folder.
 */
public final class KafkaStreamsPeer {
    static final long WINDOW_US = 600_000_000L;
    static final double LOGGER_SLOPE = 0.05, LOGGER_OFFSET = 0.2, SLOPE = 0.046, OFFSET = 0.243;

    public static void main(String[] words) {
        String broker = words[0], name = words[1];
        Properties p = new Properties();
        p.put(StreamsConfig.APPLICATION_ID_CONFIG, name);
        p.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, broker);
        p.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        p.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, words[2]);
        p.put(StreamsConfig.STATE_DIR_CONFIG, words[3]);
        p.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
        p.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 64 << 20);
        p.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
        p.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_POLL_RECORDS_CONFIG), 5000);
        p.put(StreamsConfig.producerPrefix(ProducerConfig.COMPRESSION_TYPE_CONFIG), "lz4");
        p.put(StreamsConfig.producerPrefix(ProducerConfig.LINGER_MS_CONFIG), 20);
        p.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), 256 << 10);
        Topology topology = new Topology();
        topology.addSource("raw", Serdes.ByteArray().deserializer(), Serdes.ByteArray().deserializer(), "readings.raw");
        topology.addProcessor("work", Work::new, "raw");
        topology.addStateStore(
            Stores.keyValueStoreBuilder(Stores.inMemoryKeyValueStore("windows"), Serdes.ByteArray(), Serdes.ByteArray())
                .withCachingEnabled(), "work");
        topology.addSink("clean", name + "-clean", Serdes.ByteArray().serializer(), Serdes.ByteArray().serializer(), "work");
        topology.addSink("closed", name + "-windows", Serdes.ByteArray().serializer(), Serdes.ByteArray().serializer(), "work");
        KafkaStreams streams = new KafkaStreams(topology, p);
        Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
        streams.start();
    }

    static final class Work implements Processor<byte[], byte[], byte[], byte[]> {
        private ProcessorContext<byte[], byte[]> context;
        private KeyValueStore<byte[], byte[]> store;
        private final ByteBuffer out = ByteBuffer.allocate(4 << 20).order(ByteOrder.LITTLE_ENDIAN);

        @Override
        public void init(ProcessorContext<byte[], byte[]> context) {
            this.context = context;
            store = context.getStateStore("windows");
        }

        @Override
        public void process(Record<byte[], byte[]> record) {
            ByteBuffer in = ByteBuffer.wrap(record.value()).order(ByteOrder.LITTLE_ENDIAN).position(5);
            byte[] device = bytes(in);
            bytes(in); // spool
            zigzag(in); // sequence
            long[] times = new long[0];
            for (long n = zigzag(in); n != 0; n = zigzag(in)) {
                if (n < 0) { n = -n; zigzag(in); }
                int at = times.length;
                times = Arrays.copyOf(times, at + (int) n);
                for (int i = 0; i < n; i++) times[at + i] = zigzag(in);
            }
            byte[][] channels = new byte[0][];
            for (long n = zigzag(in); n != 0; n = zigzag(in)) {
                if (n < 0) { n = -n; zigzag(in); }
                int at = channels.length;
                channels = Arrays.copyOf(channels, at + (int) n);
                for (int i = 0; i < n; i++) channels[at + i] = bytes(in);
            }
            double[] logged = new double[0];
            for (long n = zigzag(in); n != 0; n = zigzag(in)) {
                if (n < 0) { n = -n; zigzag(in); }
                int at = logged.length;
                logged = Arrays.copyOf(logged, at + (int) n);
                in.asDoubleBuffer().get(logged, at, (int) n);
                in.position(in.position() + 8 * (int) n);
            }
            int columns = channels.length;
            double[] values = new double[logged.length];
            int[] quality = new int[logged.length];
            for (int i = 0; i < logged.length; i++) {
                double value = SLOPE * ((logged[i] - LOGGER_OFFSET) / LOGGER_SLOPE) + OFFSET;
                values[i] = value;
                quality[i] = Double.isNaN(value) ? 9 : value < 0 || value > 75 ? 4 : value > 50 ? 3 : 1;
            }
            // The state of a device: start of its window, then count, mean, m2, minimum, maximum of each channel.
            byte[] kept = store.get(device);
            double[] state = new double[5 * columns];
            long start = Long.MIN_VALUE;
            if (kept != null) {
                ByteBuffer b = ByteBuffer.wrap(kept).order(ByteOrder.LITTLE_ENDIAN);
                start = b.getLong();
                b.asDoubleBuffer().get(state);
            }
            for (int row = 0; row < times.length; row++) {
                long of = times[row] - Math.floorMod(times[row], WINDOW_US);
                if (of > start) {
                    if (start != Long.MIN_VALUE) context.forward(new Record<>(device, closed(device, channels, start, state), record.timestamp()), "closed");
                    start = of;
                    Arrays.fill(state, 0);
                }
                for (int column = 0; column < columns; column++) {
                    int i = row * columns + column, s = 5 * column;
                    if (quality[i] != 1) continue;
                    double value = values[i], delta = value - state[s + 1];
                    boolean first = state[s] == 0;
                    state[s] += 1;
                    state[s + 1] += delta / state[s];
                    state[s + 2] += delta * (value - state[s + 1]);
                    state[s + 3] = first ? value : Math.min(state[s + 3], value);
                    state[s + 4] = first ? value : Math.max(state[s + 4], value);
                }
            }
            ByteBuffer b = ByteBuffer.allocate(8 + 40 * columns).order(ByteOrder.LITTLE_ENDIAN);
            b.putLong(start);
            b.asDoubleBuffer().put(state);
            store.put(device, b.array());
            context.forward(new Record<>(device, clean(device, times, channels, logged, values, quality), record.timestamp()), "clean");
        }

        private byte[] clean(byte[] device, long[] times, byte[][] channels, double[] logged, double[] values, int[] quality) {
            begin(2);
            put(device);
            put(0);
            put(times.length);
            for (long time : times) put(time);
            out.put((byte) 0);
            put(channels);
            put(logged);
            put(values);
            put(quality.length);
            for (int flag : quality) put(flag);
            out.put((byte) 0);
            put(quality.length);
            for (int flag : quality) put(flag == 3 || flag == 4 ? 1 : 0);
            out.put((byte) 0);
            return Arrays.copyOf(out.array(), out.position());
        }

        private byte[] closed(byte[] device, byte[][] channels, long start, double[] state) {
            int n = channels.length;
            begin(3);
            put(device);
            put(0);
            put(channels);
            for (long each : new long[] {start, 600, 0}) same(n, each); // starts, lengths, revisions
            put(n);
            for (int i = 0; i < n; i++) put((long) state[5 * i]);
            out.put((byte) 0);
            for (long each : new long[] {600, 0, 0, 0}) same(n, each); // expected, suspect, failed, missing: not counted
            double[] column = new double[n];
            for (int which = 1; which < 5; which++) {
                for (int i = 0; i < n; i++) column[i] = which == 2 ? Math.sqrt(state[5 * i + 2] / (state[5 * i] - 1)) : state[5 * i + which];
                put(column);
            }
            return Arrays.copyOf(out.array(), out.position());
        }

        private void begin(int schema) {
            out.clear();
            out.put((byte) 0).put((byte) 0).put((byte) 0).put((byte) 0).put((byte) schema);
        }

        private void same(int n, long value) {
            put(n);
            for (int i = 0; i < n; i++) put(value);
            out.put((byte) 0);
        }

        private void put(byte[] text) {
            put(text.length);
            out.put(text);
        }

        private void put(byte[][] texts) {
            put(texts.length);
            for (byte[] text : texts) put(text);
            out.put((byte) 0);
        }

        private void put(double[] numbers) {
            put(numbers.length);
            out.asDoubleBuffer().put(numbers);
            out.position(out.position() + 8 * numbers.length);
            out.put((byte) 0);
        }

        private void put(long number) {
            long left = (number << 1) ^ (number >> 63);
            while ((left & ~0x7FL) != 0) {
                out.put((byte) ((left & 0x7F) | 0x80));
                left >>>= 7;
            }
            out.put((byte) left);
        }

        private static long zigzag(ByteBuffer in) {
            long number = 0;
            for (int shift = 0; ; shift += 7) {
                byte next = in.get();
                number |= (long) (next & 0x7F) << shift;
                if (next >= 0) return (number >>> 1) ^ -(number & 1);
            }
        }

        private static byte[] bytes(ByteBuffer in) {
            byte[] text = new byte[(int) zigzag(in)];
            in.get(text);
            return text;
        }
    }
}
