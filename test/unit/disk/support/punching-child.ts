/**
 * A daemon that is about to be killed while it gives back the first block of a file.
 */
import { punchHoles } from '../../../../src/disk/punch-tool.ts'

await punchHoles(process.argv[2]!, [{ startBytes: 0, lengthBytes: 4096 }])
