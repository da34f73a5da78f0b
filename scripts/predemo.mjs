/**
 * Installs the npm packages before `npm run demo`, unless they are here already.
 *
 * Plain JavaScript without dependencies, because it runs first of all: under whatever Node the machine has (20 or
 * newer), with no node_modules yet. The packages bring the Node 24 that everything else runs under.
 */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const WANTED_NODE = 24

const reason = whyNotReady()
if (reason === undefined) process.exit(0)
console.log(`Installing the npm packages (${reason}) …`)
try {
  // The very npm that runs this script; npm_execpath is its cli.js.
  const npm = process.env.npm_execpath
  const [file, args] = npm?.endsWith('.js') ? [process.execPath, [npm]] : ['npm', []]
  execFileSync(file, [...args, 'ci', '--no-audit', '--no-fund', '--loglevel=error'], { cwd: root, stdio: 'inherit' })
} catch (error) {
  console.error(`npm ci failed: ${error.message}`)
  process.exit(1)
}
const still = whyNotReady()
if (still !== undefined) {
  console.error(`npm ci has run, and yet: ${still}`)
  process.exit(1)
}

/** What is missing in node_modules, compared with package-lock.json; undefined if nothing. */
function whyNotReady() {
  const wanted = readPackages('package-lock.json')
  const installed = readPackages('node_modules/.package-lock.json')
  if (wanted === undefined) return 'package-lock.json cannot be read'
  if (installed === undefined) return 'there are none yet'
  for (const [path, { version, optional }] of Object.entries(wanted)) {
    if (path === '') continue
    const found = installed[path]
    // Optional packages are for other systems; only what is installed must match.
    if (found === undefined ? !optional : found.version !== version) return `${path} ${version} is not installed`
  }
  try {
    const node = execFileSync(join(root, 'node_modules/.bin/node'), ['--version'], { encoding: 'utf8' })
    const major = Number(node.slice(1).split('.')[0])
    return major >= WANTED_NODE ? undefined : `node_modules/.bin/node is ${node.trim()}, not ${WANTED_NODE}`
  } catch (error) {
    return `node_modules/.bin/node does not run: ${error.message}`
  }
}

function readPackages(file) {
  try {
    return JSON.parse(readFileSync(join(root, file), 'utf8')).packages
  } catch (error) {
    if (error.code === 'ENOENT' || error instanceof SyntaxError) return undefined
    throw error
  }
}
