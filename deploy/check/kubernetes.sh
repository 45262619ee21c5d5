#!/bin/sh
# Validates the manifests against the schemas of two Kubernetes versions, checks references between them, and renders them if
# kubectl is installed.
set -eu
cd "$(dirname -- "$0")/../kubernetes"
manifests=$(find base -name '*.yaml' ! -name kustomization.yaml)
for version in 1.30 1.37; do
    # shellcheck disable=SC2086 # one word a file
    kubernetes-validate --quiet --strict --kubernetes-version "$version" $manifests
done
python ../check/kubernetes.py base
! command -v kubectl >/dev/null || {
    rendered=$(mktemp)
    trap 'rm -f "$rendered"' EXIT
    kubectl kustomize base >"$rendered"
    kubernetes-validate --quiet --strict --kubernetes-version 1.30 "$rendered"
}
