import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

class Main {
    public static void main(String[] given) throws Exception {
        byte[] body = Files.readAllBytes(Path.of(given[1]));
        for (String line : Files.readAllLines(Path.of(given[2]))) {
            Map<String, String> headers = new HashMap<>();
            Matcher pair = Pattern.compile("\"(.*?)\": \"(.*?)\"").matcher(line);
            while (pair.find()) {
                headers.put(pair.group(1), pair.group(2));
            }
            System.out.println(Webhook.verify(body, headers::get, given[0]));
        }
    }
}
